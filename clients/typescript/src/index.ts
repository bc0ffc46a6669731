export * from "./api.ts";
export { ControlPlaneClient, type ClientOptions, type OutputEvent } from "./client.ts";
export { ControlPlaneError, OutcomeUnknown, Refused, Reject, TaskNotCompleted, Unavailable } from "./errors.ts";
export { Asks, Job, Parks, type Answer, type Progress } from "./job.ts";
export { type Patience } from "./repeating.ts";
export { Worker, type Handler, type WorkerOptions } from "./worker.ts";
