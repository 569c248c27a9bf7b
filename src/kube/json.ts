/**
 * Reading parsed JSON without trusting its shape. The API server validates what it stores, but not all of it (custom
 * resources), and what it sends may come from a proxy. A missing or misshapen field reads as empty.
 */

export type Json = Readonly<Record<string, unknown>>;

const empty: Json = Object.freeze({});

export const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const record = (from: Json, field: string): Json => {
  const value = from[field];
  return isRecord(value) ? value : empty;
};

export const text = (from: Json, field: string): string => {
  const value = from[field];
  return typeof value === 'string' ? value : '';
};

export const count = (from: Json, field: string): number | undefined => {
  const value = from[field];
  return typeof value === 'number' && Number.isFinite(value) ? value : undefined;
};

export const flag = (from: Json, field: string): boolean | undefined => {
  const value = from[field];
  return typeof value === 'boolean' ? value : undefined;
};

/** The objects of a list; anything else in it is skipped. */
export const records = (from: Json, field: string): readonly Json[] => {
  const value = from[field];
  return Array.isArray(value) ? value.filter(isRecord) : [];
};

export const texts = (from: Json, field: string): readonly string[] => {
  const value = from[field];
  return Array.isArray(value) ? value.filter((item) => typeof item === 'string') : [];
};

/** A map of strings, such as labels. */
export const stringMap = (from: Json, field: string): Readonly<Record<string, string>> => {
  const out: Record<string, string> = {};
  for (const [key, value] of Object.entries(record(from, field))) if (typeof value === 'string') out[key] = value;
  return out;
};
