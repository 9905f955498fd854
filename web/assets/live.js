"use strict";
// Shows a page's part `live` anew when the server says that something has changed. Without this script
// every page works all the same: it shows how things were when it was asked for.
(() => {
  const path = document.body.dataset.events;
  const news = document.getElementById("news");
  if (!path || !news) return;
  let asked = false;
  let again = false;
  // In the page's language, where it says so.
  const words = { live: "live", lost: "not connected", ...news.dataset };

  const isBeingFilled = (live) => {
    const field = document.activeElement;
    return live.contains(field) && field.matches("input, select, textarea");
  };

  // The same element of the new part, so that whoever uses the keyboard stays where they are.
  const counterpart = (live, element) => {
    if (element.id) return document.getElementById(element.id);
    const address = element.getAttribute("href");
    return address && live.querySelector(`a[href="${CSS.escape(address)}"]`);
  };

  const show = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const fresh = page.getElementById("live");
    const live = document.getElementById("live");
    if (!fresh || !live || isBeingFilled(live)) return;
    const open = [...live.querySelectorAll("details[open][id]")].map((part) => part.id);
    const focused = live.contains(document.activeElement) ? document.activeElement : null;
    live.replaceChildren(...fresh.childNodes);
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) counterpart(live, focused)?.focus({ preventScroll: true });
  };

  const refresh = async () => {
    if (asked) {
      again = true;
      return;
    }
    asked = true;
    try {
      const answer = await fetch(location.href, { headers: { "x-doorstep-page": "1" } });
      if (answer.redirected) {
        location.reload();
        return;
      }
      if (answer.ok) show(await answer.text());
    } catch {
      news.textContent = words.lost;
    } finally {
      asked = false;
      if (again) {
        again = false;
        refresh();
      }
    }
  };

  const events = new EventSource(path);
  events.addEventListener("open", () => {
    news.textContent = words.live;
    refresh();
  });
  events.addEventListener("changed", refresh);
  events.addEventListener("error", () => {
    news.textContent = words.lost;
    // Refused for good: whoever is not signed in any more is told so by the page itself.
    if (events.readyState === EventSource.CLOSED) refresh();
  });
  // A page that is left must not hold its connection.
  addEventListener("pagehide", () => events.close());
  addEventListener("pageshow", (event) => {
    if (event.persisted) location.reload();
  });
})();
