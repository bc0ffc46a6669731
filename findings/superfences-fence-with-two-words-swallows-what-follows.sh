#!/usr/bin/env bash
# Subject: pymdown-extensions 13.1.2 (PyPI) with mkdocs 1.6.1: a page with a fenced block whose opening fence has a second word after
# the language, as CommonMark's info strings may have, such as "```sh run".
# A good guess: the first word is the language and the rest is ignored, as GitHub shows it; or a strict build says what it cannot read.
# Behaviour seen: superfences takes such a line for no fence at all. So the closing fence opens a block, which reaches to the next closing
# fence: the headings and the text between the two blocks are code, and the second block's content is text. A strict build says nothing
# and ends with 0, unless a link leads to one of the headings that are lost. With attributes in braces or "key=value" after the language
# everything is as it was meant.
# Output seen:
#   ```sh run: headings first, fourth; exit 0
#   ```sh: headings first, second, third, fourth; exit 0
#   ```{.sh .run}: headings first, second, third, fourth; exit 0
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check mkdocs==1.6.1 pymdown-extensions==13.1.2
cd "$dir"
mkdir docs
printf 'site_name: s\nstrict: true\nuse_directory_urls: false\nmarkdown_extensions: [toc, pymdownx.superfences]\n' > mkdocs.yml
for fence in '```sh run' '```sh' '```{.sh .run}'; do
    printf '# first\n\n%s\none\n```\n\n## second\n\nwords\n\n## third\n\n```sh\ntwo\n```\n\n## fourth\n' "$fence" > docs/index.md
    status=0
    venv/bin/mkdocs build --quiet 2>/dev/null || status=$?
    headings=$(grep -oE '<h[12] id="[a-z]+"' site/index.html | cut -d'"' -f2 | paste -sd, | sed 's/,/, /g')
    echo "$fence: headings $headings; exit $status"
done | tee seen
diff seen - <<'SEEN' || { echo "the behaviour has changed"; exit 1; }
```sh run: headings first, fourth; exit 0
```sh: headings first, second, third, fourth; exit 0
```{.sh .run}: headings first, second, third, fourth; exit 0
SEEN
