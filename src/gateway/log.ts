/** How the runner and the prober report: a level, a constant message, fields. The wiring passes its own log. */
export type GatewayLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Record<string, unknown>,
) => void;
