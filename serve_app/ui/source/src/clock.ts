/** The time as the control plane has it: a viewer's clock may be minutes off, and then no age of anything would be right. */
let skewMs = 0;

/** Notes when the server sent an answer, which it says to the second. */
export function noteDate(header: string | null): void {
  const sent = header === null ? Number.NaN : Date.parse(header);
  if (Number.isNaN(sent)) return;
  const off = sent + 500 - Date.now();
  skewMs = Math.abs(off) < 2_000 ? 0 : off;
}

/** Milliseconds since the epoch. */
export function serverNow(): number {
  return Date.now() + skewMs;
}
