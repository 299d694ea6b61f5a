import { PLACES, type Place } from "../desk/places";
import { ThemeSwitch } from "./ThemeSwitch";

export function Header({ at }: { at: Place }) {
  return (
    <header class="top">
      <a class="skip" href="#main" onClick={toMain}>
        Skip to the content
      </a>
      <div class="bar">
        <p class="brand">
          <svg viewBox="0 0 16 16" aria-hidden="true">
            <rect width="16" height="16" rx="3.5" />
            <path d="M4 8.5l2.5 2.5L12 5.5" />
          </svg>
          rexis <span>auditor’s desk</span>
        </p>
        <ThemeSwitch />
      </div>
      <nav aria-label="Sections">
        <ul>
          {PLACES.map(({ place, name }) => (
            <li key={place}>
              <a href={`#/${place}`} aria-current={place === at ? "page" : undefined}>
                {name}
              </a>
            </li>
          ))}
        </ul>
      </nav>
    </header>
  );
}

/** By hand: the fragment names the place. */
function toMain(event: Event): void {
  event.preventDefault();
  document.getElementById("main")?.focus();
}
