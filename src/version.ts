/** The version, as package.json names it (a test compares). */
export const version = '0.1.0';
