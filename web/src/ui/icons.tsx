const paths = {
  back: "M15 5l-7 7 7 7",
  plus: "M12 5v14M5 12h14",
  more: "M6 11.5v1M12 11.5v1M18 11.5v1",
  send: "M12 19V5M6 11l6-6 6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  close: "M6 6l12 12M18 6L6 18",
  reply: "M9 7l-5 5 5 5M4 12h9a7 7 0 0 1 7 7",
  edit: "M4 20h4L19 9l-4-4L4 16zM13 7l4 4",
  recall: "M4 12a8 8 0 1 0 2.500-5.800M4 4v5h5",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  eye: "M2 12s4-6.500 10-6.500S22 12 22 12s-4 6.500-10 6.500S2 12 2 12zM12 9.500a2.500 2.500 0 1 1 0 5 2.500 2.500 0 0 1 0-5",
  smile: "M12 3a9 9 0 1 1 0 18 9 9 0 0 1 0-18M8.500 14.500a4.500 4.500 0 0 0 7 0M9 9.500h.01M15 9.500h.01",
  pin: "M9 4h6l-1 6 3 3H7l3-3zM12 13v7",
  mute: "M6 17V11a6 6 0 0 1 9-5.200M18 11v6H8M10 20h4M4 4l16 16",
  check: "M5 12.500l4.500 4.500L19 7.500",
  checks: "M2 12.500l4.500 4.500L15 8.500M11 15.500l1.500 1.500L22 7.500",
  clock: "M12 4a8 8 0 1 1 0 16 8 8 0 0 1 0-16M12 8v4.500l3 1.500",
  alert: "M12 4l9 16H3zM12 10v4M12 17h.01",
  people:
    "M9 5a3.500 3.500 0 1 1 0 7 3.500 3.500 0 0 1 0-7M2.500 20a6.500 6.500 0 0 1 13 0M16 5.500a3.500 3.500 0 0 1 0 6.500M18 14.500a6.500 6.500 0 0 1 3.500 5.500",
};

/** A drawing beside a text or in a button that has a label: screen readers skip it. */
export function Icon({ name }: { name: keyof typeof paths }) {
  return (
    <svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  );
}
