/**
 * Lengths of time for people to read: rounded to what matters at their size. `duration.ts` is the exact form, for objects and
 * programs; this one is for sentences and tables.
 */

/** 400 → `400ms`, 3200 → `3.2s`, 12_000 → `12s`, 90_000 → `1m30s`, 7_260_000 → `2h1m`. */
export const span = (ms: number): string => {
  if (ms <= 0) return '0s';
  if (ms < 1_000) return `${Math.max(1, Math.round(ms))}ms`;
  if (ms < 9_950) return `${Number((ms / 1_000).toFixed(1))}s`;
  // Rounded first, so that 59.7 s is a minute and not sixty seconds.
  const seconds = Math.round(ms / 1_000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 === 0 ? `${minutes}m` : `${minutes}m${seconds % 60}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 === 0 ? `${hours}h` : `${hours}h${minutes % 60}m`;
  const days = Math.floor(hours / 24);
  return hours % 24 === 0 ? `${days}d` : `${days}d${hours % 24}h`;
};
