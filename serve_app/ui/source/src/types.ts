/** The answers of the API as its own description has them: the types of the TypeScript client, which `make docs` writes. */
import type { Api } from "../../../../clients/typescript/src/api.ts";
export type { Agent, Decision, Deliberation, Explanation, Json, Task } from "../../../../clients/typescript/src/api.ts";

type Answer<K extends keyof Api> = Api[K] extends (...args: never[]) => Promise<infer T> ? T : never;

export type Health = Answer<"apiDetailed">;
export type QueueNumbers = Answer<"queueMetrics">;
export type TaskNumbers = Answer<"taskMetrics">;
export type TaskPage = Answer<"listTasks">;
export type Controls = Answer<"queueControls">;
export type Queue = Answer<"queue">;
export type AgentPage = Answer<"listAgents">;
export type Breakers = Answer<"breakers">;
export type DeadPage = Answer<"deadLetters">;
export type DeliberationPage = Answer<"listDeliberations">;
export type Story = Answer<"readStory">;
export type StoryEvent = Story["events"][number];
export type Session = Answer<"showSession">;
export type Caller = Answer<"showCaller">;
