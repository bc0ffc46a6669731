/** Who is told of what, and what came of it. */
import { useQuery } from "@tanstack/react-query";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Field, Form, Select } from "../forms.tsx";
import { Act, Badge, Card, duration, Empty, Id, Loaded, Page, plural, Time } from "../parts.tsx";
import { Allowed, Choice, Table, useAddress } from "../table.tsx";
import type { Channels, Notification, NotificationNumbers, NotificationRules, Notifications } from "../types.ts";
import { filled, listed, numbered } from "../values.ts";

const SIZE = 50;
const EVERY_MS = 10_000;
const SEVERITIES = ["info", "warning", "error", "critical"];

export function NotificationsPage() {
  return (
    <Page title="Notifications" lead="Who is told of what, and what came of it.">
      <div className="grid">
        <Allowed permission="notifications.read" title="Notifications">
          <Sent />
          <ChannelCard />
          <RuleCard />
        </Allowed>
        <NewChannel />
        <NewRule />
      </div>
    </Page>
  );
}

function Sent() {
  const may = useMay();
  const [asked, set] = useAddress();
  const [status, channel, cursor] = [asked.get("status") ?? "", asked.get("channel") ?? "", asked.get("cursor") ?? ""];
  const query = { status, channel, cursor, limit: SIZE };
  const found = useQuery({
    queryKey: ["notifications", query],
    queryFn: ({ signal }) => read<Notifications>("notifications", query, signal),
    placeholderData: (before) => before,
    refetchInterval: EVERY_MS,
  });
  const numbers = useQuery({ queryKey: ["notifications", "numbers"], queryFn: ({ signal }) => read<NotificationNumbers>("notifications/stats", {}, signal), refetchInterval: EVERY_MS });
  const refused = lacks(may, "notifications.write");
  return (
    <Card title="Told" className="wide" more={numbers.data && <span className="faint">{numbers.data.successful} delivered, {numbers.data.failed} given up, {numbers.data.pending} wait</span>}>
      <form className="filters" role="search" aria-label="Notifications" onSubmit={(event) => event.preventDefault()}>
        <Choice label="Status" value={status} values={["pending", "delivered", "dead"]} set={(value) => set({ status: value })} />
        <Choice label="Channel" value={channel} values={Object.keys(numbers.data?.by_channel ?? {})} set={(value) => set({ channel: value })} />
      </form>
      <Loaded of={found}>
        {(page) => (
          <>
            <p className="faint tally" role="status">{plural(page.total, "notification")}</p>
            {page.notifications.length === 0 ? (
              <Empty>None matches.</Empty>
            ) : (
              <Table label="Notifications" columns={["When", "What", "Severity", "Channel", "Rule", "Status", "Tries", ""]}>
                {page.notifications.map((each) => (
                  <tr key={each.notification_id}>
                    <td><Time at={each.created_at} /></td>
                    <td className="long">
                      {each.title} <About notification={each} />
                      {each.repeats > 0 && <span className="faint"> and {plural(each.repeats, "repeat")}</span>}
                      {each.last_error && <p className="bad small">{each.last_error}</p>}
                    </td>
                    <td><Badge state={each.severity === "info" ? "pending" : each.severity === "warning" ? "paused" : "failed"}>{each.severity}</Badge></td>
                    <td>{each.channel}</td>
                    <td>{each.rule ?? <span className="faint">a test</span>}</td>
                    <td><Badge state={each.status === "delivered" ? "completed" : each.status === "dead" ? "failed" : "pending"}>{each.status}</Badge></td>
                    <td>{each.attempts}{each.next_attempt_at !== null && each.status === "pending" && <span className="faint">, next <Time at={each.next_attempt_at} /></span>}</td>
                    <td><div role="group" aria-label={each.title}><Act label="Send again" refused={refused ?? (each.status === "dead" ? null : "Only what was given up is sent again.")} run={() => change("POST", `notifications/${encodeURIComponent(each.notification_id)}/replay`)} /></div></td>
                  </tr>
                ))}
              </Table>
            )}
            <nav className="pages" aria-label="Pages of the list">
              {cursor && <button type="button" onClick={() => set({})}>Newest</button>}
              {page.next_cursor && <button type="button" onClick={() => set({ cursor: page.next_cursor ?? "" })}>Older</button>}
            </nav>
          </>
        )}
      </Loaded>
    </Card>
  );
}

const PATHS: Record<string, string> = { task: "tasks", agent: "agents", deliberation: "deliberations", policy: "policies", schedule: "schedules" };

function About({ notification: { event, entity } }: { notification: Notification }) {
  const path = PATHS[event.split(/[._]/)[0] ?? ""];
  return path ? <Id to={`/${path}/${encodeURIComponent(entity)}`} id={entity} /> : <span className="faint">{entity}</span>;
}

function ChannelCard() {
  const may = useMay();
  const found = useQuery({ queryKey: ["channels"], queryFn: ({ signal }) => read<Channels>("notifications/channels", {}, signal), refetchInterval: 30_000 });
  const refused = lacks(may, "notifications.write");
  return (
    <Card title="Channels">
      <Loaded of={found}>
        {({ channels }) =>
          channels.length === 0 ? (
            <Empty>There are no channels: nobody is told.</Empty>
          ) : (
            <ul className="short">
              {channels.map((channel) => (
                <li key={channel.name}>
                  <strong>{channel.name}</strong> <span className="faint">{channel.kind} {channel.url ?? channel.recipients?.join(", ") ?? ""}{channel.credential && ` with the credential ${channel.credential}`}</span>
                  <Act label={`Test ${channel.name}`} done="Queued." refused={refused} run={() => change("POST", `notifications/channels/${encodeURIComponent(channel.name)}/test`)} />
                  <Act label={`Delete ${channel.name}`} tone="danger" confirm={`Delete the channel ${channel.name}? What waits for it is given up.`} refused={refused} run={() => change("DELETE", `notifications/channels/${encodeURIComponent(channel.name)}`)} />
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </Card>
  );
}

function RuleCard() {
  const may = useMay();
  const found = useQuery({ queryKey: ["rules"], queryFn: ({ signal }) => read<NotificationRules>("notifications/rules", {}, signal), refetchInterval: 30_000 });
  const refused = lacks(may, "notifications.write");
  return (
    <Card title="Rules">
      <Loaded of={found}>
        {({ rules }) =>
          rules.length === 0 ? (
            <Empty>There are no rules: nothing is told.</Empty>
          ) : (
            <ul className="short">
              {rules.map((rule) => (
                <li key={rule.name}>
                  <strong>{rule.name}</strong>
                  <span className="faint">
                    {rule.events.join(", ")} from {rule.severity} up to {rule.channels.join(", ")}
                    {rule.repeat_after_seconds > 0 && `, the same again after ${duration(rule.repeat_after_seconds)}`}
                    {rule.digest_seconds !== null && `, together every ${duration(rule.digest_seconds)}`}
                    {rule.quiet && ", with quiet hours"}
                  </span>
                  <Act label={`Delete ${rule.name}`} tone="danger" confirm={`Delete the rule ${rule.name}? What is queued is sent.`} refused={refused} run={() => change("DELETE", `notifications/rules/${encodeURIComponent(rule.name)}`)} />
                </li>
              ))}
            </ul>
          )
        }
      </Loaded>
    </Card>
  );
}

function NewChannel() {
  const may = useMay();
  return (
    <Card title="New channel">
      <Form
        label="New channel"
        action="Make or replace it"
        done="Stored."
        refused={lacks(may, "notifications.write")}
        run={(values) =>
          change("POST", "notifications/channels", filled({
            name: values.name, kind: values.kind, url: values.url, credential: values.credential, host: values.host, port: numbered(values.port), sender: values.sender, recipients: listed(values.recipients), user: values.user,
          }))
        }
      >
        <Field name="name" label="Name" required maxLength={128} />
        <Select name="kind" label="Kind" values={["webhook", "slack", "teams", "email"]} />
        <Field name="url" label="Address (webhook)" type="url" placeholder="https://example.com/hook" />
        <Field name="credential" label="Credential" />
        <Field name="host" label="Mail server" />
        <Field name="port" label="Its port" type="number" min={1} max={65_535} />
        <Field name="sender" label="From" />
        <Field name="recipients" label="To" />
        <Field name="user" label="User of the mail server" />
      </Form>
    </Card>
  );
}

function NewRule() {
  const may = useMay();
  return (
    <Card title="New rule">
      <Form
        label="New rule"
        action="Make or replace it"
        done="Stored."
        refused={lacks(may, "notifications.write")}
        run={(values) =>
          change("POST", "notifications/rules", filled({
            name: values.name, events: listed(values.events), severity: values.severity, channels: listed(values.channels), repeat_after_seconds: numbered(values.repeat), digest_seconds: numbered(values.digest),
          }))
        }
      >
        <Field name="name" label="Name" required maxLength={128} />
        <Field name="events" label="Events" required placeholder="task.dead_lettered, agent.offline" />
        <Select name="severity" label="From the severity" values={SEVERITIES} />
        <Field name="channels" label="Channels" required />
        <Field name="repeat" label="The same again after seconds" type="number" min={0} />
        <Field name="digest" label="Together every so many seconds" type="number" min={60} />
      </Form>
    </Card>
  );
}
