/** Where one can go. The second part is folded, so that the bar leaves a narrow window to the page. */
import { Link, useLocation } from "wouter";
import { useRegions } from "./pages/Regions.tsx";

const FIRST = [
  ["/", "Overview"],
  ["/queue", "Queue"],
  ["/fleet", "Fleet"],
  ["/deliberations", "Deliberations"],
  ["/questions", "Questions"],
] as const;
const MORE = [
  ["/workflows", "Workflows"],
  ["/schedules", "Schedules"],
  ["/policies", "Policies"],
  ["/budgets", "Budgets and quotas"],
  ["/notifications", "Notifications"],
  ["/hooks", "Hooks"],
  ["/audit", "Audit"],
  ["/retention", "Retention"],
  ["/access", "Keys and credentials"],
  ["/workspaces", "Workspaces and members"],
  ["/receipt", "Verify a receipt"],
] as const;
const REGIONS = ["/regions", "Regions"] as const;
/** Pages that belong to another in the bar. */
const WITHIN: readonly (readonly [string, string])[] = [
  ["/tasks/", "/queue"],
  ["/submit", "/queue"],
  ["/agents/", "/fleet"],
  ["/ask", "/deliberations"],
  ["/receipts/", "/deliberations"],
  ["/runs/", "/workflows"],
];

export function Navigation() {
  const [location] = useLocation();
  const here = WITHIN.find(([path]) => location.startsWith(path))?.[1] ?? location;
  const isIn = (href: string) => (href === "/" ? here === "/" : here === href || here.startsWith(`${href}/`));
  // A part that is off is not shown.
  const more = useRegions().data?.enabled ? [...MORE, REGIONS] : MORE;
  const within = more.find(([href]) => isIn(href));
  const link = ([href, name]: readonly [string, string]) => (
    <Link key={href} href={href} aria-current={isIn(href) ? "page" : undefined}>{name}</Link>
  );
  return (
    <nav aria-label="Pages">
      {FIRST.map(link)}
      {/* Another page closes it. */}
      <details key={location} className="menu">
        <summary aria-current={within && "true"}>{within ? within[1] : "More"}</summary>
        <div>{more.map(link)}</div>
      </details>
    </nav>
  );
}
