/**
 * Dialling tunnels, as seen by those who only use them (probes): the port that the HBONE room fills.
 *
 * Every failure is an `IsthmusError` of the `path/…` codes, so that a prober can tell a refused connection from a refused certificate
 * without knowing how either is made.
 */

export interface TunnelTarget {
  readonly host: string;
  readonly port: number;
  /** For errors: what this hop is called. */
  readonly hop: string;
  /** Identities that may answer. */
  readonly accept: readonly string[];
  readonly servername?: string;
  /** For TCP and TLS together. */
  readonly timeoutMs: number;
}

export interface TunnelRequest {
  /** `host:port` */
  readonly authority: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs: number;
}

/** An answer to a CONNECT, whatever its status. */
export interface Tunnel {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** From the CONNECT to the answer. */
  readonly ms: number;
  /** The tunnel's bytes, when the status is 200. */
  readonly stream: NodeJS.ReadWriteStream;
  /**
   * A TLS handshake inside the tunnel and nothing after it. Waits `lingerMs` more for the other side to refuse our certificate, which
   * it may do only when the handshake is over for us.
   * @returns the identity of the other end
   */
  handshake(options: {
    readonly hop: string;
    readonly accept: readonly string[];
    readonly timeoutMs: number;
    readonly lingerMs: number;
  }): Promise<string>;
  /** A whole connection inside the tunnel. */
  nest(options: {
    readonly hop: string;
    readonly accept: readonly string[];
    readonly timeoutMs: number;
  }): Promise<TunnelConnection>;
  /** Ends it. Any number of times. */
  end(): void;
}

export interface TunnelConnection {
  /** False once it can take no more tunnels. */
  readonly usable: boolean;
  connect(request: TunnelRequest): Promise<Tunnel>;
  /** Whether the other end answers a ping in time. */
  ping(timeoutMs: number): Promise<boolean>;
  close(): void;
}

export interface TunnelDialer {
  dial(target: TunnelTarget): Promise<TunnelConnection>;
}
