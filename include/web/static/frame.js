// Airflow shows these pages in a frame of the same origin.
"use strict";

if (window.parent !== window) {
  const outer = window.parent.document;

  // Airflow has a switch of its own between light and dark.
  const follow = () => {
    const theme = ["dark", "light"].find((name) => outer.documentElement.classList.contains(name));
    if (theme) {
      document.documentElement.dataset.theme = theme;
    }
  };
  follow();
  new MutationObserver(follow).observe(outer.documentElement, { attributeFilter: ["class"] });

  // The frame may not navigate the window, so Airflow's document follows a link to one of Airflow's own pages.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-airflow]");
    if (!link || event.ctrlKey || event.metaKey) {
      return;
    }
    event.preventDefault();
    const copy = outer.createElement("a");
    copy.href = link.href;
    outer.body.append(copy);
    copy.click();
    copy.remove();
  });
}
