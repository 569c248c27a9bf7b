/** The layout of the store, in one place: `/isthmus/v1/<clusterset>/…`. */

export interface Keys {
  readonly root: string;
  readonly membersPrefix: string;
  readonly publicPrefix: string;
  member(member: string): string;
  memberPrefix(member: string): string;
  manifest(member: string): string;
  service(member: string, namespace: string, name: string): string;
  gateways(member: string): string;
  trust(member: string): string;
  vantage(member: string): string;
}

export const storeKeys = (clusterset: string): Keys => {
  const root = `/isthmus/v1/${clusterset}/`;
  const memberPrefix = (member: string) => `${root}public/${member}/`;
  return {
    root,
    membersPrefix: `${root}set/members/`,
    publicPrefix: `${root}public/`,
    member: (member) => `${root}set/members/${member}`,
    memberPrefix,
    manifest: (member) => `${memberPrefix(member)}manifest`,
    service: (member, namespace, name) => `${memberPrefix(member)}services/${namespace}/${name}`,
    gateways: (member) => `${memberPrefix(member)}gateways`,
    trust: (member) => `${memberPrefix(member)}trust`,
    vantage: (member) => `${memberPrefix(member)}vantage`,
  };
};
