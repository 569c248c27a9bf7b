/** `isthmus version` */
import { version } from '../version.ts';
import { type Format, print, printData } from './output.ts';

export const printVersion = (options: { output: Format }): void => {
  const value = { version, node: process.version, store: 'v1', platform: `${process.platform}/${process.arch}` };
  if (options.output === 'json' || options.output === 'yaml') printData(options.output, value);
  else
    print(
      options.output === 'wide' ? `isthmus ${version} (node ${value.node}, ${value.platform})` : `isthmus ${version}`,
    );
};
