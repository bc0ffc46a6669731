"""Authentication and authorisation: one door for the fast path, FastAPI and WebSockets.

``admission.py`` is the door: it asks the replica's ``PrincipalResolver`` (``resolver.py``) who calls, and refuses the call if
that principal lacks the permission that the route declares. ``routing.py`` puts the door in front of every route.

A way to authenticate (API keys, JWT, an OIDC login, client certificates) is a module here with a ``PrincipalResolver``;
``authentication`` in ``making.py`` puts them together. The routes of a login itself go to ``serve_app/routes/``.
"""
