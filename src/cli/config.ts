/** `isthmus config schema` and `isthmus config check` */
import { gatewaySchema } from '../config/gateway.ts';
import { configJsonSchema, loadConfig } from '../config/load.ts';
import { print, printData } from './output.ts';

export const schema = (options: { gateway: boolean }): void =>
  print(JSON.stringify(options.gateway ? configJsonSchema(gatewaySchema) : configJsonSchema(), null, 2));

export const check = (options: { config?: string; set: string[] }): void =>
  printData('yaml', loadConfig({ file: options.config, environment: process.env, sets: options.set }));
