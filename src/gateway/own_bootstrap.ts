/**
 * What the runner adds to an Envoy's bootstrap: the admin socket, and a listener that sends back what it gets.
 *
 * The echo runs on a worker, so its answer shows what no answer of the admin interface can: that connections are served.
 * It has a socket of its own, which the sibling does not share. With one worker that is the one that matters; with more, one
 * connection sees one of them, and Envoy's own watchdog looks after the others, slowly and with jitter, for it
 * counts the time in which the machine was paused.
 */

export interface OwnPaths {
  readonly adminPath: string;
  readonly echoPath: string;
}

type Tree = { readonly [key: string]: unknown };

const tree = (value: unknown): Tree =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Tree) : {};
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

export const echoListenerName = 'isthmus-liveness';

const echoListener = (path: string) => ({
  name: echoListenerName,
  address: { pipe: { path, mode: 0o600 } },
  ignore_global_conn_limit: true,
  bypass_overload_manager: true,
  filter_chains: [
    {
      filters: [
        {
          name: 'envoy.filters.network.echo',
          typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo' },
        },
      ],
    },
  ],
});

const severalWorkers = {
  watchdogs: {
    worker_watchdog: { megamiss_timeout: '1s', kill_timeout: '5s', max_kill_timeout_jitter: '5s' },
  },
};

/** The bootstrap with our parts in it; an admin interface and watchdogs that it names itself are kept out of the way. */
export const withOwnParts = (bootstrap: unknown, paths: OwnPaths, concurrency: number): unknown => {
  const given = tree(bootstrap);
  const statics = tree(given['static_resources']);
  return {
    ...given,
    ...(concurrency > 1 ? severalWorkers : {}),
    admin: { address: { pipe: { path: paths.adminPath, mode: 0o600 } } },
    static_resources: { ...statics, listeners: [...list(statics['listeners']), echoListener(paths.echoPath)] },
  };
};
