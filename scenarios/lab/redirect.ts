/**
 * How a pod's traffic gets into its ztunnel, inside the pod's own network namespace.
 *
 * The real one is redirected by nftables as istio-cni does it: what the pod sends goes to :15001, what reaches it to :15006,
 * HBONE (:15008) as it is, and the proxy's own packets (mark 0x539, or its group) pass. The stand-in needs less: the whole service
 * range is made local, so that it can listen on virtual addresses themselves (see standin/outbound.ts).
 */
import { execFile, spawn } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface RedirectOptions {
  /** The network namespace, as `ip netns` names it. */
  readonly netns: string;
  /** The pod's own address. */
  readonly podIp: string;
  /** Ranges of virtual service addresses. */
  readonly serviceCidrs: readonly string[];
}

/** Mark on the real ztunnel's own packets: `PACKET_MARK=1337`. */
export const packetMark = 1_337;
/** Group to run the real ztunnel under: it marks what it proxies, but not its own calls to the control plane. */
export const proxyGid = 1_337;
const own = '0x539';
/** Connections whose source address ztunnel kept on the way to the app. */
const kept = '0x111';

/** The rules for the real ztunnel, as `nft -f` reads them. */
export const ztunnelRules = (): string => `table ip isthmus_redirect
delete table ip isthmus_redirect
table ip isthmus_redirect {
  chain mark_in {
    type filter hook prerouting priority -150; policy accept;
    meta mark & 0xfff == ${own} ct mark set ${kept}
  }
  chain mark_out {
    type route hook output priority -150; policy accept;
    ct mark & 0xfff == ${kept} meta mark set ct mark
  }
  chain capture_out {
    type nat hook output priority -100; policy accept;
    meta mark & 0xfff == ${kept} accept
    meta mark & 0xfff == ${own} accept
    meta skgid ${proxyGid} accept
    ip daddr 127.0.0.0/8 accept
    oifname "lo" accept
    ip protocol tcp redirect to :15001
  }
  chain capture_in {
    type nat hook prerouting priority -100; policy accept;
    meta mark & 0xfff == ${own} accept
    iifname "lo" accept
    ip daddr 127.0.0.0/8 accept
    tcp dport 15000-15100 accept
    ip protocol tcp redirect to :15006
  }
}
`;

const nft = (netns: string, rules: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const child = spawn('ip', ['netns', 'exec', netns, 'nft', '-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    child.on('error', reject);
    child.stdin.on('error', () => {});
    child.stdin.end(rules);
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`nft in ${netns} ended with ${code}: ${errors.trim()} (is nftables installed?)`));
    });
  });

const inNetns = (netns: string, ...args: readonly string[]): Promise<unknown> => run('ip', ['-n', netns, ...args]);
const unlessThere = (error: Error): void => {
  if (!/File exists/.test(error.message)) throw error;
};

/** Captures for the real ztunnel. Idempotent. */
export const redirectZtunnel = async ({ netns }: Pick<RedirectOptions, 'netns'>): Promise<void> => {
  await inNetns(netns, 'route', 'replace', 'local', '0.0.0.0/0', 'dev', 'lo', 'table', '100');
  await inNetns(netns, 'rule', 'add', 'fwmark', `${kept}/0xfff`, 'pref', '32764', 'lookup', '100').catch(unlessThere);
  await nft(netns, ztunnelRules());
};

/** Captures for the stand-in. Idempotent. Needs no nftables. */
export const redirectStandin = async ({ netns, podIp, serviceCidrs }: RedirectOptions): Promise<void> => {
  for (const cidr of serviceCidrs) {
    await inNetns(netns, 'route', 'replace', 'local', cidr, 'dev', 'lo', 'src', podIp);
  }
};
