#!/usr/bin/env bash
# Subject: common-expression-language 0.10.0 from PyPI (the Rust implementation of CEL), CPython 3.11 to 3.13.
# A good guess: a function that a caller registers in the `Context` under the name of a function of the language either takes its
# place, as a variable of the context would, or is refused.
# Behaviour seen: it is taken without a word, `Context.functions` lists it, and it is never called: `size`, `contains`, `startsWith`
# and `int` go on as they were. So a rule cannot be given another meaning of them (a `size` that counts characters, say), and one
# that registers such a function decides by the built-in one. `max`, which the language does not have, is called.
# Output seen:
#   registered: contains, int, max, size, startsWith
#   called: max
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check common-expression-language==0.10.0
cat > "$dir/run.py" <<'PY'
import cel

called = []


def mine(name):
    def function(*arguments):
        called.append(name)
        return 7

    return function


names = ["size", "contains", "startsWith", "int", "max"]
context = cel.Context({"list": [1, 2], "text": "words"}, {name: mine(name) for name in names})
values = [
    cel.evaluate(source, context)
    for source in ("size(list)", 'text.contains("x")', 'text.startsWith("w")', 'int("3")', "max(1, 2)")
]
got = [f"registered: {', '.join(sorted(context.functions))}", f"called: {', '.join(called)}"]
print("\n".join(got))
assert values == [2, False, True, 3, 7], values
assert got == ["registered: contains, int, max, size, startsWith", "called: max"], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
