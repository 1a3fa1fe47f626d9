/** The sign of pim. */
export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect width="32" height="32" rx="9" />
      <path d="M11.500 8h9a3.500 3.500 0 0 1 3.500 3.500v6a3.500 3.500 0 0 1-3.500 3.500H15l-4.600 3.700c-.6.500-1.400.1-1.400-.700V21a3.500 3.500 0 0 1-1-3.500v-6A3.500 3.500 0 0 1 11.500 8z" />
    </svg>
  );
}
