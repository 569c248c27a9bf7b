/** `isthmus keys rotate`: has a cluster's controllers replace its record key and federation CA now, as they would by age. */
import { realClock } from '../ops/clock.ts';
import { type ClusterOptions, openCluster } from './install_member.ts';
import { step } from './output.ts';

export const keysRotate = async (options: ClusterOptions): Promise<void> => {
  const api = await openCluster(options);
  try {
    const now = String(realClock.wallMs());
    await step('the controllers are asked for new keys', () =>
      api.request({
        method: 'PATCH',
        path: `/api/v1/namespaces/${options.namespace}/secrets/isthmus-member`,
        contentType: 'application/merge-patch+json',
        body: { data: { 'rotate-keys': Buffer.from(now).toString('base64') } },
      }),
    );
    process.stderr.write('they announce them, and use them once every live peer knows them: isthmus status\n');
  } finally {
    api.close();
  }
};
