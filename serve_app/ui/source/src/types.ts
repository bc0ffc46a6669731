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
export type { ApiKey, AuditEntry, Budget, Channel, Credential, Notification, NotificationRule, OpenQuestion, Policy, Quotas, RunStep, Schedule, Violation, Workflow, WorkflowRun } from "../../../../clients/typescript/src/api.ts";

export type ReceiptKeys = Answer<"getKeys">;
export type Policies = Answer<"listPolicies">;
export type OnePolicy = Answer<"getPolicy">;
export type PolicyVersions = Answer<"listPolicyVersions">;
export type PolicyTrial = Answer<"dryRunPolicy">;
export type Violations = Answer<"listViolations">;
export type ViolationNumbers = Answer<"getViolationStats">;
export type Budgets = Answer<"listBudgets">;
export type Spent = Answer<"spending">;
export type Schedules = Answer<"listSchedules">;
export type SchedulePreview = Answer<"previewSchedule">;
export type Workflows = Answer<"listWorkflows">;
export type WorkflowRuns = Answer<"listRuns">;
export type Notifications = Answer<"listNotifications">;
export type NotificationNumbers = Answer<"notificationStats">;
export type Channels = Answer<"listChannels">;
export type NotificationRules = Answer<"listRules">;
export type Audit = Answer<"listAudit">;
export type AuditNumbers = Answer<"auditStats">;
export type AuditVerified = Answer<"verifyAudit">;
export type Keys = Answer<"listKeys">;
export type NewKey = Answer<"createKey">;
export type Credentials = Answer<"listCredentials">;
export type Questions = Answer<"listQuestions">;
