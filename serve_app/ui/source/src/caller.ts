/** What the caller may do. An action that is forbidden is shown with the reason and not left out, so that nobody looks for it. */
import { createContext, useContext } from "react";
import type { Caller } from "./types.ts";

export const CallerContext = createContext<Caller | null>(null);

export function useCaller(): Caller {
  const caller = useContext(CallerContext);
  if (caller === null) throw new Error("there is no caller outside of the shell");
  return caller;
}

/** Whether the caller has a permission, by its name without `controlplane:`. `suspended`: its workspace is. */
export type May = ((permission: string) => boolean) & { suspended: boolean };

export function useMay(): May {
  const { permissions, suspended } = useCaller();
  return Object.assign((permission: string) => permissions.includes(`controlplane:${permission}`), { suspended });
}

/** What a suspension takes from nobody: of these, a caller lacks what its role lacks. */
const KEPT = /\.read$|^(access\.write|audit\.verify|agents\.connect|tasks\.claim|payloads\.erase)$/;

/** Why an action is not offered; null if it is. */
export function lacks(may: May, permission: string): string | null {
  if (may(permission)) return null;
  if (may.suspended && !KEPT.test(permission)) return "The workspace is suspended: nothing changes in it until an administrator resumes it.";
  return `Your role lacks controlplane:${permission}.`;
}
