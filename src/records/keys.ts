/** The layout of the store, in one place: `/isthmus/v1/<clusterset>/…`. */

export interface Keys {
  readonly root: string;
  readonly membersPrefix: string;
  readonly setPrefix: string;
  readonly publicPrefix: string;
  /** What members publish for one reader alone: the only names under `to/` that it may read. */
  readerPrefix(reader: string): string;
  /** What one member publishes for one reader alone. */
  partPrefix(reader: string, member: string): string;
  /** For whom a member has such a part, and its root. */
  readers(member: string): string;
  member(member: string): string;
  memberPrefix(member: string): string;
  manifest(member: string): string;
  service(member: string, namespace: string, name: string): string;
  gateways(member: string): string;
  trust(member: string): string;
  vantage(member: string): string;
  loaded(member: string): string;
  grants(member: string, reader: string): string;
  votes(member: string): string;
  verdicts(member: string): string;
  statePart(member: string, part: number): string;
  /** The cluster set's default FailoverPolicy. */
  readonly policy: string;
  readonly revocationsPrefix: string;
  revocation(member: string): string;
  /** Of one token: who holds it may write the first and the last, and read the second. */
  joinRequest(token: string): string;
  joinAnswer(token: string): string;
  joinDone(token: string): string;
  joinPrefix(token: string): string;
  /** Where store gateways take the writes: the public key of a token's secret, for as long as the token is open. The authority alone writes it. */
  joinOpen(token: string): string;
  /** What the store gateways note of a member's writes; nobody else reads or writes it. */
  writeNote(member: string): string;
  readonly writeNotesPrefix: string;
  /** Client certificates for etcd that store gateways issued to a member, by serial: for the day when they must be revoked. */
  issuedPrefix(member: string): string;
  /** Of all members. */
  readonly allIssuedPrefix: string;
}

export const storeKeys = (clusterset: string): Keys => {
  const root = `/isthmus/v1/${clusterset}/`;
  const memberPrefix = (member: string) => `${root}public/${member}/`;
  return {
    root,
    membersPrefix: `${root}set/members/`,
    setPrefix: `${root}set/`,
    publicPrefix: `${root}public/`,
    readerPrefix: (reader) => `${root}to/${reader}/`,
    partPrefix: (reader, member) => `${root}to/${reader}/${member}/`,
    readers: (member) => `${memberPrefix(member)}readers`,
    member: (member) => `${root}set/members/${member}`,
    memberPrefix,
    manifest: (member) => `${memberPrefix(member)}manifest`,
    service: (member, namespace, name) => `${memberPrefix(member)}services/${namespace}/${name}`,
    gateways: (member) => `${memberPrefix(member)}gateways`,
    trust: (member) => `${memberPrefix(member)}trust`,
    vantage: (member) => `${memberPrefix(member)}vantage`,
    loaded: (member) => `${memberPrefix(member)}loaded`,
    grants: (member, reader) => `${memberPrefix(member)}grants/${reader}`,
    votes: (member) => `${memberPrefix(member)}votes`,
    verdicts: (member) => `${memberPrefix(member)}verdicts`,
    statePart: (member, part) => `${memberPrefix(member)}verdicts/${part}`,
    policy: `${root}set/policy`,
    revocationsPrefix: `${root}set/revocations/`,
    revocation: (member) => `${root}set/revocations/${member}`,
    joinRequest: (token) => `${root}set/joins/${token}/request`,
    joinAnswer: (token) => `${root}set/joins/${token}/answer`,
    joinDone: (token) => `${root}set/joins/${token}/done`,
    joinPrefix: (token) => `${root}set/joins/${token}/`,
    joinOpen: (token) => `${root}set/joins/${token}/open`,
    writeNote: (member) => `${root}writes/${member}`,
    writeNotesPrefix: `${root}writes/`,
    allIssuedPrefix: `${root}issued/`,
    issuedPrefix: (member) => `${root}issued/${member}/`,
  };
};
