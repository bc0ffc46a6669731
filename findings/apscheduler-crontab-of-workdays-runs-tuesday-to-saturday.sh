#!/usr/bin/env bash
# Subject: APScheduler 3.11.3 (PyPI), CronTrigger.from_crontab, which takes an expression of a crontab.
# A good guess: the numbers of weekdays are those of cron (0 and 7 are Sunday, 1-5 Monday to Friday), a day of the month beside a
# weekday is "or", and a time that a night has twice, when the clock goes back, is one run.
# Behaviour seen: 0 is Monday, as in Python's datetime, so that a schedule of workdays runs from Tuesday to Saturday; 7 is refused.
# Names of weekdays are right. The 13th beside a weekday is "and". The night when the clock goes back has two runs. Nothing is
# logged, so a crontab that is moved as it is runs on wrong days.
# Output seen:
#   0 9 * * 1-5: Tue Wed Thu Fri Sat
#   0 9 * * 0: Mon
#   0 9 * * 7: ValueError
#   0 9 * * mon-fri: Mon Tue Wed Thu Fri
#   0 9 13 * mon: Mon 13 Sep 2027
#   30 2 * * * in Berlin, 25 October 2026: 02:30+0200 02:30+0100
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"${PYTHON:-python3}" -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check apscheduler==3.11.3 tzdata==2025.2
cat > "$dir/run.py" <<'PY'
import datetime
import zoneinfo

from apscheduler.triggers.cron import CronTrigger


def runs(expression: str, number: int, after: datetime.datetime) -> list[datetime.datetime]:
    trigger = CronTrigger.from_crontab(expression, timezone=after.tzinfo)
    found: list[datetime.datetime] = []
    for _ in range(number):
        last = found[-1] if found else None
        found.append(trigger.get_next_fire_time(last, last or after))
    return found


def weekdays(expression: str, number: int) -> str:
    sunday = datetime.datetime(2026, 11, 29, 12, tzinfo=zoneinfo.ZoneInfo("UTC"))
    try:
        return f"{expression}: " + " ".join(f"{run:%a}" for run in runs(expression, number, sunday))
    except ValueError as error:
        return f"{expression}: {type(error).__name__}"


utc, berlin = zoneinfo.ZoneInfo("UTC"), zoneinfo.ZoneInfo("Europe/Berlin")
got = [weekdays("0 9 * * 1-5", 5), weekdays("0 9 * * 0", 1), weekdays("0 9 * * 7", 1), weekdays("0 9 * * mon-fri", 5)]
first = runs("0 9 13 * mon", 1, datetime.datetime(2026, 11, 29, 12, tzinfo=utc))[0]
got.append(f"0 9 13 * mon: {first:%a %d %b %Y}")
night = runs("30 2 * * *", 2, datetime.datetime(2026, 10, 24, 12, tzinfo=berlin))
got.append("30 2 * * * in Berlin, 25 October 2026: " + " ".join(f"{run:%H:%M%z}" for run in night if run.day == 25))
print("\n".join(got))
assert got == [
    "0 9 * * 1-5: Tue Wed Thu Fri Sat",
    "0 9 * * 0: Mon",
    "0 9 * * 7: ValueError",
    "0 9 * * mon-fri: Mon Tue Wed Thu Fri",
    "0 9 13 * mon: Mon 13 Sep 2027",
    "30 2 * * * in Berlin, 25 October 2026: 02:30+0200 02:30+0100",
], "the behaviour has changed"
PY
"$dir/venv/bin/python" "$dir/run.py"
