"""What both ends of the API agree on: errors, ids, JSON that every store can hold, and bounds. Pure: no I/O, no clock.

The core of the control plane (``cluster/domain``) takes these definitions from here, since a worker must not need the control
plane's package. So they import nothing but the standard library.
"""
