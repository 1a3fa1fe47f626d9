// The oldest browsers that the SDK and the chat page are built for, as esbuild and Vite name them.
export const browsers = ["chrome111", "firefox115", "safari16.4"];
