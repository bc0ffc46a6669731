/**
 * What a call may throw, by what its caller can do about it.
 *
 *   Refused        the API refused (4xx): repeating the call changes nothing
 *   Unavailable    the API cannot do it now (429, 503), or it failed (other 5xx): repeat it under its key
 *   OutcomeUnknown an Unavailable: no answer, or one that is not the API's (a proxy's): the call may be done or not
 *
 * Whoever repeats a call after every error but Refused loses nothing, and does nothing twice.
 */
export class ControlPlaneError extends Error {
  readonly code: string;

  constructor(message: string, code: string) {
    super(message);
    this.name = new.target.name;
    this.code = code;
  }
}

export class Refused extends ControlPlaneError {
  /** The HTTP status; 0 if the call did not leave this process. */
  readonly status: number;

  constructor(message: string, code: string, status: number) {
    super(message, code);
    this.status = status;
  }
}

export class Unavailable extends ControlPlaneError {
  /** How many seconds to wait first (its Retry-After); 0 if it does not say. */
  readonly waitSeconds: number;

  constructor(message: string, code = "unavailable", waitSeconds = 0) {
    super(message, code);
    this.waitSeconds = waitSeconds;
  }
}

export class OutcomeUnknown extends Unavailable {
  /** The HTTP status of an answer that is not the API's. */
  readonly answered: number | undefined;

  constructor(message: string, waitSeconds = 0, answered?: number) {
    super(message, "outcome_unknown", waitSeconds);
    this.answered = answered;
  }
}

/** Thrown by a handler: this task can never succeed, so it is not tried again. */
export class Reject extends Error {
  constructor(message: string) {
    super(message);
    this.name = "Reject";
  }
}

/** The task has ended without a result. */
export class TaskNotCompleted extends ControlPlaneError {
  readonly task: Readonly<Record<string, unknown>>;

  constructor(task: Readonly<Record<string, unknown>>) {
    const error = task["error"] ? `: ${String(task["error"])}` : "";
    super(`Task ${String(task["id"])} is ${String(task["status"])}${error}`, `task_${String(task["status"])}`);
    this.task = task;
  }
}
