"""The live screen of ``aragora-cp top``: queue, agents, deliberations and regions, by textual.

It needs no mouse and no more than a terminal of 80 columns, so that it works over SSH: on a small one a panel has the screen to
itself, and its number brings it. Words of agents and of people are shown as they are, never as markup.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, ClassVar, Final

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import DataTable, Footer, Static

from cluster.cli.screens.top_reading import Panel, Reading

Read = Callable[[], Awaitable[Reading]]
Detail = Callable[[str, str], Awaitable[str]]

PANELS: Final = ("queue", "agents", "deliberations", "regions")
#: Colours of words in cells; every word is also read without its colour.
_COLOURS: Final = {
    "failed": "red",
    "unhealthy": "red",
    "offline": "red",
    "deaf": "red",
    "suspect": "yellow",
    "degraded": "yellow",
    "paused": "yellow",
    "draining": "yellow",
    "retrying": "yellow",
    "running": "green",
    "busy": "green",
    "in_progress": "green",
    "consensus_reached": "green",
}


class DetailScreen(ModalScreen[None]):
    """What is known of one row, until a key closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,enter", "dismiss", "Back")]
    CSS = """
    DetailScreen { align: center middle; }
    DetailScreen > VerticalScroll { width: 92%; height: 88%; border: round $accent; background: $surface; padding: 0 1; }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="detail") as box:
            box.border_title = Text(self._title)
            box.border_subtitle = "Esc: back"
            yield Static(Text(self._text), id="words")


class TopApp(App[None]):
    """Reads again every ``interval_s`` seconds. ``read`` and ``detail`` are the only ways to the control plane."""

    TITLE = "aragora-cp top"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-small"), (130, "-wide")]
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("r", "look", "Look"),
        Binding("p", "hold", "Hold"),
        *(Binding(str(number), f"panel('{name}')", name.capitalize()) for number, name in enumerate(PANELS, start=1)),
        Binding("0", "all", "All"),
    ]
    CSS = """
    Screen { layout: vertical; }
    #summary { height: 1; padding: 0 1; background: $boost; }
    #state { height: 1; padding: 0 1; color: $text-muted; }
    #panels { grid-size: 2 2; grid-gutter: 0; height: 1fr; }
    .-small #panels { grid-size: 1 1; }
    DataTable { border: round $primary; height: 100%; width: 100%; }
    DataTable:focus { border: round $accent; }
    .-small DataTable { display: none; }
    .-small DataTable.-chosen { display: block; }
    .-one #panels { grid-size: 1 1; }
    .-one DataTable { display: none; }
    .-one DataTable.-chosen { display: block; }
    """

    def __init__(self, read: Read, detail: Detail, *, where: str, interval_s: float) -> None:
        super().__init__()
        self._read, self._detail, self._where, self._interval_s = read, detail, where, interval_s
        self._held = False

    def compose(self) -> ComposeResult:
        yield Static("Reading …", id="summary")
        with Grid(id="panels"):
            for name in PANELS:
                table: DataTable[Text] = DataTable(id=name, cursor_type="row", zebra_stripes=True)
                table.border_title = name.capitalize()
                yield table
        yield Static("", id="state")
        yield Footer()

    def on_mount(self) -> None:
        self._choose("queue")
        self.action_look()
        self.set_interval(self._interval_s, self._tick)

    @property
    def _panels(self) -> Screen[object]:
        """The screen of the panels, which is read on while another is over it."""
        return self.screen_stack[0]

    def _tick(self) -> None:
        if not self._held:
            self.action_look()

    def action_look(self) -> None:
        """Reads once. A reading that is under way is not doubled: a control plane that answers slowly is not asked more often."""
        if not any(worker.group == "look" and not worker.is_finished for worker in self.workers):
            self.run_worker(self._look(), group="look")

    async def _look(self) -> None:
        reading = await self._read()
        with self.batch_update():
            self._panels.query_one("#summary", Static).update(Text(reading.summary))
            for name, panel in reading.panels.items():
                self._fill(self._panels.query_one(f"#{name}", DataTable), panel)
        self._say(datetime.now().astimezone())

    def _say(self, at: datetime) -> None:
        held = "HELD · " if self._held else ""
        self._panels.query_one("#state", Static).update(
            Text(f"{held}{self._where} · read at {at:%H:%M:%S} · Enter: more of a row")
        )

    def _fill(self, table: DataTable[Text], panel: Panel) -> None:
        """Shows a panel. The row that the cursor is on stays under it, wherever the row is now, and the scroll stays."""
        before = self._key_of(table)
        scrolled = table.scroll_y
        table.border_title = Text(panel.title)
        table.border_subtitle = Text(panel.problem, style="red")
        table.clear(columns=True)
        table.add_columns(*panel.head)
        seen: set[str] = set()
        for key, cells in panel.rows:
            if key not in seen:
                seen.add(key)
                table.add_row(*(Text(cell, style=_colour(cell)) for cell in cells), key=key)
        if before is not None and before in seen:
            table.move_cursor(row=table.get_row_index(before), animate=False, scroll=False)
        table.scroll_to(y=scrolled, animate=False)

    def _key_of(self, table: DataTable[Text]) -> str | None:
        if not table.row_count:
            return None
        return table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value

    def _choose(self, name: str) -> None:
        for table in self._panels.query(DataTable):
            table.set_class(table.id == name, "-chosen")
        self._panels.query_one(f"#{name}", DataTable).focus()

    def action_panel(self, name: str) -> None:
        self._panels.add_class("-one")
        self._choose(name)

    def action_all(self) -> None:
        self._panels.remove_class("-one")

    def action_hold(self) -> None:
        self._held = not self._held
        self._say(datetime.now().astimezone())

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        name, key = event.data_table.id, event.row_key.value
        if name is not None and name != "regions" and key is not None:
            self.run_worker(self._show(name, key), group="detail", exclusive=True)

    async def _show(self, name: str, key: str) -> None:
        self.push_screen(DetailScreen(key, await self._detail(name, key)))


def _colour(cell: str) -> str:
    first: Any = cell.partition(" ")[0]
    return _COLOURS.get(first, "")
