/** How this region and its zone stand. What changes them is a command on the leader's machine, which needs no API. */
import { useQuery } from "@tanstack/react-query";
import { read } from "../api.ts";
import { useMay } from "../caller.ts";
import { Badge, Card, count, duration, Empty, Fact, Loaded, Page, Time, words } from "../parts.tsx";
import { Allowed, Table } from "../table.tsx";
import type { Regions } from "../types.ts";

const EVERY_MS = 5_000;

/** The regions, if the caller may see them. Read seldom where nothing shows them. */
export function useRegions(everyMs = 60_000) {
  const may = useMay();
  return useQuery({ queryKey: ["regions"], queryFn: ({ signal }) => read<Regions>("regions", {}, signal), enabled: may("system.read"), refetchInterval: everyMs });
}

export function RegionsPage() {
  return (
    <Page title="Regions" lead="Who writes for the zone, who is in sync with it, and how far the others are, as this region's leader knows it.">
      <div className="grid">
        <Allowed permission="system.read" title="Regions"><Standing /></Allowed>
      </div>
    </Page>
  );
}

function Standing() {
  const found = useRegions(EVERY_MS);
  return (
    <Loaded of={found}>
      {(zone) =>
        zone.enabled ? (
          <>
            <Here zone={zone} />
            <Warnings zone={zone} />
            <Others zone={zone} />
          </>
        ) : (
          <Card title={zone.region} className="wide"><Empty>This region is alone: nothing is replicated. <code>ARAGORA_REGION_PEERS</code> names others.</Empty></Card>
        )
      }
    </Loaded>
  );
}

function Here({ zone }: { zone: Regions }) {
  return (
    <Card title={zone.region} more={zone.role && <Badge state={zone.role === "primary" ? "healthy" : zone.role === "fenced" ? "failed" : "running"}>{zone.role}</Badge>}>
      <dl className="facts">
        <Fact name="Zone">{zone.zone ?? "–"}</Fact>
        <Fact name="Primary">{zone.primary ?? "nobody yet"}</Fact>
        <Fact name="Epoch">{zone.epoch ?? "–"}</Fact>
        <Fact name="Phase">{zone.phase === null ? "–" : words(zone.phase)}</Fact>
        <Fact name="Trusted until"><Time at={zone.trusted_until} form="full" /></Fact>
        <Fact name="Last row">{zone.head === null ? "–" : count(zone.head)}</Fact>
        <Fact name="Mode">{zone.mode ?? "–"}</Fact>
        <Fact name="In sync">{zone.in_sync.join(", ") || "nobody"}</Fact>
        <Fact name="Leader of etcd">{zone.etcd_leader ?? "–"}</Fact>
      </dl>
    </Card>
  );
}

function Warnings({ zone }: { zone: Regions }) {
  const found = [
    ...(zone.is_led ? [] : ["No process leads this region now."]),
    ...(zone.problem === null ? [] : [`It has a problem: ${words(zone.problem)}.`]),
    ...(zone.role === "primary" && zone.no_writes !== null ? [`It refuses writes: ${words(zone.no_writes)}.`] : []),
    ...(zone.surplus_rows > 0 ? [`${count(zone.surplus_rows)} rows that no other region has are kept in files on its machine.`] : []),
    ...zone.warnings,
  ];
  return (
    <Card title="What to look at">
      {found.length === 0 ? <Empty>Nothing.</Empty> : <ul className="reasons">{found.map((each) => <li key={each}>{each}</li>)}</ul>}
      <p className="faint">Change it on the machine of its leader: <code>aragora-cp region failover --to REGION</code>, <code>failback</code>, <code>mode</code>, <code>drill</code>.</p>
    </Card>
  );
}

function Others({ zone }: { zone: Regions }) {
  const lag = new Map(zone.lag.map((each) => [each.region, each]));
  return (
    <Card title="Members" className="wide">
      {zone.members.length === 0 ? (
        <Empty>The group is not known yet.</Empty>
      ) : (
        <Table label="Members" columns={["Region", "Is", "Resident zone", "In sync", "Lag"]}>
          {zone.members.map(({ region, holds_data, residency }) => (
            <tr key={region}>
              <td>{region}{region === zone.region && <span className="faint"> (here)</span>}</td>
              <td>{region === zone.primary ? <Badge state="healthy">primary</Badge> : holds_data ? "secondary" : "witness"}</td>
              <td>{residency ?? <span className="faint">none</span>}</td>
              <td>{!holds_data ? <span className="faint">–</span> : zone.in_sync.includes(region) ? <Badge state="healthy">in sync</Badge> : <Badge state="degraded">not in sync</Badge>}</td>
              <td><Lag lag={lag.get(region)} isPrimary={region === zone.primary} /></td>
            </tr>
          ))}
        </Table>
      )}
    </Card>
  );
}

function Lag({ lag, isPrimary }: { lag: Regions["lag"][number] | undefined; isPrimary: boolean }) {
  if (isPrimary) return <span className="faint">–</span>;
  if (lag === undefined) return <span className="faint">its primary knows</span>;
  if (lag.rows !== null) return <>{lag.rows === 0 ? "none" : `${count(lag.rows)} rows`}</>;
  if (lag.silent_seconds === null) return <span className="bad">nothing was ever heard of the primary</span>;
  return <span className={lag.is_stale ? "bad" : ""}>heard of the primary {duration(lag.silent_seconds)} ago{lag.is_stale && ", stale"}</span>;
}
