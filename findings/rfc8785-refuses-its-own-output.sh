#!/usr/bin/env bash
# Subject: rfc8785 0.1.4 (PyPI), canonical JSON (RFC 8785), with Python's json, as a receipt is signed here and checked there.
# A good guess: a canonical form is its own canonical form. Whoever reads it and canonicalises what was read gets the same bytes;
# a value that has no exact form is refused when it is signed, not when it is checked.
# Behaviour seen: not for floats without a fraction from 2^53 up to 1e21. They are written in full, without point or exponent, as
# the RFC asks. json.loads makes an int of such digits, and dumps refuses an int beyond 2^53 - 1 with IntegerDomainError, so what
# was signed without a complaint cannot be checked in Python. 1e21 comes back as a float and is well. json.loads with
# parse_int=float gives the same bytes for all of them.
# Output seen:
#   9007199254740991.0: 9007199254740991, again: the same
#   9007199254740992.0: 9007199254740992, again: IntegerDomainError
#   1e+20: 100000000000000000000, again: IntegerDomainError
#   1e+21: 1e+21, again: the same
#   all with parse_int=float, again: the same
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check rfc8785==0.1.4
cat > "$dir/run.py" <<'PY'
import json

import rfc8785

VALUES = [9007199254740991.0, 9007199254740992.0, 1e20, 1e21]


def again(canonical: bytes, **options: object) -> str:
    """What a reader gets who canonicalises what the bytes say."""
    try:
        return "the same" if rfc8785.dumps(json.loads(canonical, **options)) == canonical else "other bytes"
    except rfc8785.CanonicalizationError as error:
        return type(error).__name__


got = [f"{value!r}: {rfc8785.dumps(value).decode()}, again: {again(rfc8785.dumps(value))}" for value in VALUES]
got.append(f"all with parse_int=float, again: {again(rfc8785.dumps(VALUES), parse_int=float)}")
print("\n".join(got))
assert got == [
    "9007199254740991.0: 9007199254740991, again: the same",
    "9007199254740992.0: 9007199254740992, again: IntegerDomainError",
    "1e+20: 100000000000000000000, again: IntegerDomainError",
    "1e+21: 1e+21, again: the same",
    "all with parse_int=float, again: the same",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
