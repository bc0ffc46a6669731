/** Tasks that wait for people, each with a form for its answer. */
import { useQuery } from "@tanstack/react-query";
import { change, read } from "../api.ts";
import { lacks, useMay } from "../caller.ts";
import { Field, Form } from "../forms.tsx";
import { Act, Card, Empty, Fact, Id, Loaded, Page, plural, PRIORITIES, Time, Value } from "../parts.tsx";
import { answerOf } from "../answers.ts";
import { SchemaFields } from "../schema.tsx";
import { Allowed, useAddress } from "../table.tsx";
import type { OpenQuestion, Questions } from "../types.ts";
import { filled } from "../values.ts";

const SIZE = 25;

export function QuestionsPage() {
  const may = useMay();
  const [asked, set] = useAddress();
  const cursor = asked.get("cursor") ?? "";
  const found = useQuery({
    queryKey: ["tasks", "questions", cursor],
    queryFn: ({ signal }) => read<Questions>("questions", { limit: SIZE, cursor }, signal),
    enabled: may("tasks.read"),
    placeholderData: (before) => before,
    refetchInterval: 10_000,
  });
  return (
    <Page title="Questions" lead="Tasks that wait until a person answers, newest first.">
      <Allowed permission="tasks.read" title="Questions">
        <Loaded of={found}>
          {(page) => (
            <>
              <p className="faint tally" role="status">{page.total_exact ? plural(page.total, "open question") : `more than ${page.total} open questions`}</p>
              {page.questions.length === 0 && <Empty>Nobody asks anything now.</Empty>}
              <div className="grid">{page.questions.map((question) => <Asked key={`${question.task_id} ${question.attempt}`} question={question} />)}</div>
              <nav className="pages" aria-label="Pages of the list">
                {cursor && <button type="button" onClick={() => set({})}>Newest</button>}
                {page.next_cursor && <button type="button" onClick={() => set({ cursor: page.next_cursor ?? "" })}>Older</button>}
              </nav>
            </>
          )}
        </Loaded>
      </Allowed>
    </Page>
  );
}

function Asked({ question }: { question: OpenQuestion }) {
  const may = useMay();
  // Who is named may answer whatever the role is; only the server knows all groups of the caller.
  const refused = question.answerers.length > 0 ? null : lacks(may, "tasks.write");
  const schema = question.answer_schema ?? null;
  const answer = (body: object) => change("POST", `tasks/${encodeURIComponent(question.task_id)}/answer`, { ...body, attempt: question.attempt });
  const label = `Task ${question.task_id}`;
  return (
    <Card title={question.question ?? "A question"} more={<span className="faint">{PRIORITIES[question.priority] ?? question.priority}</span>}>
      {question.question === undefined && <p className="why">Your role lacks controlplane:payloads.read, so the question is not shown.</p>}
      <dl className="facts">
        <Fact name="Task"><Id to={`/tasks/${encodeURIComponent(question.task_id)}`} id={question.task_id} /> {question.task_type}</Fact>
        <Fact name="Asked"><Time at={question.asked_at} /> by {question.asked_by}</Fact>
        <Fact name="Until">{question.due_at === null ? "as long as the task may wait" : <Time at={question.due_at} />}</Fact>
        <Fact name="Who may answer">{question.answerers.join(", ") || "whoever may write tasks"}</Fact>
      </dl>
      {question.default !== undefined && question.default !== null && <Value title="The default, if nobody answers" value={question.default} name="default.json" />}
      {schema === null && (
        <div className="actions">
          <Act label="Approve" tone="primary" refused={refused} run={() => answer({ verdict: "approve" })} />
        </div>
      )}
      <Form
        label={`Answer of ${label}`}
        action="Answer"
        refused={refused}
        run={async (values) => {
          const given = answerOf(schema, values);
          if (given === undefined) throw new Error("There is no answer yet.");
          await answer({ verdict: "answer", answer: given, ...filled({ reason: values.reason }) });
        }}
      >
        <SchemaFields schema={schema} />
        <Field name="reason" label="Why (may be left out)" maxLength={1_000} className="full" />
      </Form>
      <details>
        <summary>Reject</summary>
        <Form label={`Rejection of ${label}`} action="Reject" refused={refused} run={(values) => answer({ verdict: "reject", ...filled({ reason: values.reason }) })}>
          <Field name="reason" label="Why" maxLength={1_000} className="full" />
        </Form>
      </details>
      {schema !== null && <Value title="What fits (JSON Schema)" value={schema} name="schema.json" />}
    </Card>
  );
}
