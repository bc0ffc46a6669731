/** What the caller may do. An action that is forbidden is shown with the reason and not left out, so that nobody looks for it. */
import { createContext, useContext } from "react";
import type { Caller } from "./types.ts";

export const CallerContext = createContext<Caller | null>(null);

export function useCaller(): Caller {
  const caller = useContext(CallerContext);
  if (caller === null) throw new Error("there is no caller outside of the shell");
  return caller;
}

/** Whether the caller has a permission, by its name without `controlplane:`. */
export function useMay(): (permission: string) => boolean {
  const { permissions } = useCaller();
  return (permission) => permissions.includes(`controlplane:${permission}`);
}

/** Why an action is not offered; null if it is. */
export function lacks(may: (permission: string) => boolean, permission: string): string | null {
  return may(permission) ? null : `Your role lacks controlplane:${permission}.`;
}
