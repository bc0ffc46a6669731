/** The shell: who calls, where one is, whether the page is connected. */
import { MutationCache, onlineManager, QueryCache, QueryClient, QueryClientProvider, useQuery, useQueryClient, type UseQueryResult } from "@tanstack/react-query";
import { Component, type FormEvent, type ReactNode, useEffect, useState } from "react";
import { Link, Route, Switch, useLocation } from "wouter";
import { ApiError, change, CP, read } from "./api.ts";
import { CallerContext } from "./caller.ts";
import { live, useLiveState } from "./live.ts";
import { useLiveQueries } from "./live-queries.ts";
import { Navigation } from "./navigation.tsx";
import { AccessPage } from "./pages/Access.tsx";
import { AgentPage } from "./pages/Agent.tsx";
import { AuditPage } from "./pages/Audit.tsx";
import { BudgetsPage } from "./pages/Budgets.tsx";
import { DeliberationPage } from "./pages/Deliberation.tsx";
import { AskPage, DeliberationsPage } from "./pages/Deliberations.tsx";
import { FleetPage } from "./pages/Fleet.tsx";
import { HooksPage } from "./pages/Hooks.tsx";
import { NotificationsPage } from "./pages/Notifications.tsx";
import { forgetActivity, OverviewPage } from "./pages/Overview.tsx";
import { PoliciesPage, PolicyPage } from "./pages/Policies.tsx";
import { QuestionsPage } from "./pages/Questions.tsx";
import { QueuePage } from "./pages/Queue.tsx";
import { ReceiptPage } from "./pages/Receipt.tsx";
import { RegionsPage } from "./pages/Regions.tsx";
import { RetentionPage } from "./pages/Retention.tsx";
import { SchedulePage, SchedulesPage } from "./pages/Schedules.tsx";
import { SubmitPage } from "./pages/Submit.tsx";
import { TaskPage } from "./pages/Task.tsx";
import { WorkspacesPage } from "./pages/Workspaces.tsx";
import { RunPage, WorkflowPage, WorkflowsPage } from "./pages/Workflows.tsx";
import { Page, Problem } from "./parts.tsx";
import { setCredentials, useCredentials } from "./session.ts";
import { nextTheme, theme } from "./theme.ts";
import type { Caller, Session } from "./types.ts";

const client = new QueryClient({
  // A change that is refused may say that the login has ended, or that the workspace was suspended or the role changed.
  mutationCache: new MutationCache({
    onError: (error) => {
      if (error instanceof ApiError && (error.status === 401 || error.status === 403)) void client.invalidateQueries({ queryKey: ["caller"] });
    },
  }),
  queryCache: new QueryCache({
    onError: (error, query) => {
      // The question who calls is asked again if another call was refused, and not for its own refusal.
      if (query.queryKey[0] !== "caller" && error instanceof ApiError && error.status === 401) void client.invalidateQueries({ queryKey: ["caller"] });
    },
  }),
  defaultOptions: {
    queries: {
      staleTime: 1_000,
      refetchOnWindowFocus: true,
      retry: (failures, error) => failures < 2 && error instanceof ApiError && error.mayRepeat,
    },
  },
});

export function App() {
  return (
    <QueryClientProvider client={client}>
      <Door />
    </QueryClientProvider>
  );
}

function identity({ principal, workspace }: Caller): string {
  return `${principal} ${workspace}`;
}

function forgetAnswers(): void {
  client.removeQueries({ predicate: (query) => query.queryKey[0] !== "caller" });
}

/** Lets in who is known, and asks the others who they are. */
function Door() {
  const { key, workspace } = useCredentials();
  const caller = useQuery({
    queryKey: ["caller", key, workspace],
    queryFn: async ({ signal }) => {
      const session = await read<Session>("auth/session", {}, signal).catch((error: unknown) => {
        if (error instanceof ApiError && error.status === 401) return null; // it has ended
        throw error;
      });
      setCredentials({ csrf: session?.csrf_token ?? "" });
      const found = await read<Caller>("auth/caller", {}, signal).catch((error: unknown) => {
        // A workspace that was chosen before and is none of the caller's any more.
        if (error instanceof ApiError && error.status === 403 && workspace) {
          setCredentials({ workspace: "" });
        }
        throw error;
      });
      return found;
    },
    // What a role loses, and a suspension, is seen within this at the latest: not everybody is told of it by the stream.
    staleTime: 10_000,
    refetchInterval: 30_000,
    networkMode: "always",
  });
  const { data, error } = caller;
  // Who was let in last. A login that has ended hides the page and keeps what was typed into it, for the same person's return.
  const [known, setKnown] = useState<Caller | null>(null);
  const isRefused = error instanceof ApiError && (error.status === 401 || (error.status === 403 && !data));
  const isOpen = !isRefused && !!data && data.workspace !== null;
  if (isOpen && data !== known) {
    // What one was shown is not the next one's.
    if (known !== null && identity(known) !== identity(data)) forgetAnswers();
    setKnown(data);
  }
  const isHidden = known !== null && !isOpen;
  // What is hidden asks nothing: its calls would be refused one after the other.
  useEffect(() => onlineManager.setOnline(!isHidden), [isHidden]);
  const shown = isOpen ? data : known;
  return (
    <>
      {!isOpen && <Outside caller={caller} isRefused={isRefused} />}
      {shown && (
        <div hidden={!isOpen}>
          <CallerContext value={shown}>
            <Shell key={identity(shown)} caller={shown} isOpen={isOpen} leave={() => setKnown(null)} />
          </CallerContext>
        </div>
      )}
    </>
  );
}

/** What is shown before somebody is let in. */
function Outside({ caller, isRefused }: { caller: UseQueryResult<Caller>; isRefused: boolean }) {
  const { data, error } = caller;
  if (isRefused) return <Login error={error as ApiError} />;
  if (data === undefined) {
    return (
      <main className="door">
        <h1>Aragora</h1>
        {error ? (
          <>
            <Problem error={error} />
            <button type="button" onClick={() => void caller.refetch()}>Try again</button>
          </>
        ) : (
          <p role="status">Connecting…</p>
        )}
      </main>
    );
  }
  return <Choose caller={data} />;
}

function Login({ error }: { error: ApiError }) {
  const { key } = useCredentials();
  const [typed, setTyped] = useState("");
  const logins = useQuery({
    queryKey: ["logins"],
    queryFn: async () => {
      const answer = await fetch(`${CP}/auth/session`, { credentials: "omit" });
      return answer.ok ? ((await answer.json()) as Session).enabled : false;
    },
    staleTime: Infinity,
    networkMode: "always",
  });
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (typed.trim() === key) void client.invalidateQueries({ queryKey: ["caller"] });
    setCredentials({ key: typed.trim() });
  };
  const back = location.pathname + location.search;
  return (
    <main className="door">
      <Mark />
      <h1>Log in to Aragora</h1>
      {(key || error.status === 403) && <Problem error={error} />}
      {logins.data && (
        <a className="button primary" href={`${CP}/auth/login?next=${encodeURIComponent(back)}`}>
          Log in with your organisation
        </a>
      )}
      <form onSubmit={submit}>
        <label>
          API key or token
          <input
            type="password"
            autoComplete="off"
            spellCheck={false}
            required
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
          />
        </label>
        <button className={logins.data ? "" : "primary"}>Use it in this tab</button>
      </form>
      <p className="faint">
        The key stays in this tab and is forgotten with it. An administrator makes one with <code>aragora-cp keys create</code>.
      </p>
    </main>
  );
}

function Choose({ caller }: { caller: Caller }) {
  return (
    <main className="door">
      <Mark />
      <h1>Choose a workspace</h1>
      <p>You have a role in several.</p>
      <ul className="plain">
        {caller.workspaces.map((workspace) => (
          <li key={workspace}>
            <button type="button" onClick={() => setCredentials({ workspace })}>{workspace}</button>
          </li>
        ))}
      </ul>
    </main>
  );
}

/** A fault of one page leaves the others. */
class Guard extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state: { error: Error | null } = { error: null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    if (this.state.error === null) return this.props.children;
    return <Page title="This page failed"><Problem error={this.state.error} /><p>It is a fault of the page, and the control plane goes on. <a href={location.href}>Load it again</a></p></Page>;
  }
}

function Shell({ caller, isOpen, leave }: { caller: Caller; isOpen: boolean; leave: () => void }) {
  const queries = useQueryClient();
  const [location] = useLocation();
  const mayStream = caller.permissions.includes("controlplane:stream.read");
  useLiveQueries();
  useEffect(() => {
    if (!mayStream || !isOpen) return;
    forgetActivity();
    live.start(
      () => void queries.invalidateQueries({ queryKey: ["caller"] }),
      () => void queries.invalidateQueries(),
    );
    return () => live.stop();
  }, [queries, mayStream, isOpen]);
  useEffect(() => {
    // A screen reader is told of the new page, and the keyboard goes on from its beginning.
    window.scrollTo(0, 0);
    document.querySelector<HTMLElement>("main h1")?.focus({ preventScroll: true });
  }, [location]);
  return (
    <>
      <a className="skip" href="#main">Skip to the content</a>
      <div className="shell">
        <div className="bar">
          <Link href="/" className="brand" aria-label="Aragora, overview"><Mark /> <span>Aragora</span></Link>
          <Navigation />
          <div className="who">
            {mayStream && <Connection />}
            <Workspaces caller={caller} />
            <ThemeButton />
            <Leave caller={caller} leave={leave} />
          </div>
        </div>
        <main id="main" tabIndex={-1}>
          {caller.suspended && (
            <p className="problem" role="status">
              The workspace {caller.workspace} is suspended: what it has is shown, what runs may end, and nothing else changes until an administrator resumes it.
            </p>
          )}
          <Guard key={location}>
          <Switch>
            <Route path="/"><OverviewPage /></Route>
            <Route path="/queue"><QueuePage /></Route>
            <Route path="/submit"><SubmitPage /></Route>
            <Route path="/tasks/:id">{({ id }) => <TaskPage key={id} id={decoded(id)} />}</Route>
            <Route path="/fleet"><FleetPage /></Route>
            <Route path="/agents/:id">{({ id }) => <AgentPage key={id} id={decoded(id)} />}</Route>
            <Route path="/deliberations"><DeliberationsPage /></Route>
            <Route path="/ask"><AskPage /></Route>
            <Route path="/deliberations/:id">{({ id }) => <DeliberationPage key={id} id={decoded(id)} />}</Route>
            <Route path="/receipt"><ReceiptPage /></Route>
            <Route path="/receipts/:id">{({ id }) => <ReceiptPage key={id} id={decoded(id)} />}</Route>
            <Route path="/questions"><QuestionsPage /></Route>
            <Route path="/schedules"><SchedulesPage /></Route>
            <Route path="/schedules/:id">{({ id }) => <SchedulePage key={id} id={decoded(id)} />}</Route>
            <Route path="/workflows"><WorkflowsPage /></Route>
            <Route path="/workflows/:id">{({ id }) => <WorkflowPage key={id} name={decoded(id)} />}</Route>
            <Route path="/runs/:id">{({ id }) => <RunPage key={id} id={decoded(id)} />}</Route>
            <Route path="/policies"><PoliciesPage /></Route>
            <Route path="/policies/:id">{({ id }) => <PolicyPage key={id} id={decoded(id)} />}</Route>
            <Route path="/budgets"><BudgetsPage /></Route>
            <Route path="/notifications"><NotificationsPage /></Route>
            <Route path="/audit"><AuditPage /></Route>
            <Route path="/access"><AccessPage /></Route>
            <Route path="/hooks"><HooksPage /></Route>
            <Route path="/workspaces"><WorkspacesPage /></Route>
            <Route path="/retention"><RetentionPage /></Route>
            <Route path="/regions"><RegionsPage /></Route>
            <Route><Page title="There is no such page"><p><Link href="/">Go to the overview</Link></p></Page></Route>
          </Switch>
          </Guard>
        </main>
      </div>
    </>
  );
}

/** An address that was typed may have a lone percent sign. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const CONNECTION = {
  connecting: ["wait", "Connecting"],
  live: ["good", "Live"],
  lost: ["bad", "Connection lost, trying again"],
  off: ["bad", "Not connected"],
} as const;

function Connection() {
  const [tone, text] = CONNECTION[useLiveState()];
  return <span className={`badge ${tone}`} role="status">{text}</span>;
}

function Workspaces({ caller }: { caller: Caller }) {
  if (caller.workspaces.length < 2) return <span className="faint">{caller.workspace}</span>;
  return (
    <label className="compact">
      <span className="hidden">Workspace</span>
      <select
        value={caller.workspace ?? ""}
        onChange={(event) => {
          forgetAnswers();
          setCredentials({ workspace: event.target.value });
        }}
      >
        {caller.workspaces.map((workspace) => <option key={workspace}>{workspace}</option>)}
      </select>
    </label>
  );
}

function ThemeButton() {
  const [chosen, setChosen] = useState(theme);
  return (
    <button type="button" className="quiet" aria-label={`Colours: ${chosen}`} title={`Colours: ${chosen}`} onClick={() => setChosen(nextTheme())}>
      {chosen === "system" ? "◐" : chosen === "light" ? "☀" : "☾"}
    </button>
  );
}

function Leave({ caller, leave: forget }: { caller: Caller; leave: () => void }) {
  const { key, csrf } = useCredentials();
  let leave: ReactNode = null;
  if (key || csrf) {
    const end = async () => {
      live.stop();
      if (!key) await change("POST", "auth/logout");
      forgetAnswers();
      forget();
      setCredentials({ key: "", csrf: "", workspace: "" });
      await client.resetQueries({ queryKey: ["caller"] });
      client.removeQueries({ queryKey: ["caller"], type: "inactive" });
    };
    leave = <button type="button" className="quiet" onClick={() => void end()}>Log out</button>;
  }
  return (
    <>
      <span className="faint principal" title={caller.principal}>{caller.principal.replace(/^user:/, "")}</span>
      {leave}
    </>
  );
}

function Mark() {
  return (
    <svg className="mark" viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="#4f46e5" />
      <path d="M9 23 16 8l7 15M12 17h8" fill="none" stroke="#fff" strokeWidth="2.6" strokeLinecap="round" strokeLinejoin="round" />
    </svg>
  );
}
