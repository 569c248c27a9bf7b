/** `isthmus config schema` and `isthmus config check` */
import { gatewaySchema } from '../config/gateway.ts';
import { configJsonSchema, loadConfig } from '../config/load.ts';
import { storeGatewaySchema } from '../config/store_gateway.ts';
import { print, printData } from './output.ts';

export const schema = (options: { gateway: boolean; storeGateway: boolean }): void => {
  const of = options.gateway ? gatewaySchema : options.storeGateway ? storeGatewaySchema : undefined;
  print(JSON.stringify(configJsonSchema(of), null, 2));
};

export const check = (options: { config?: string; set: string[] }): void =>
  printData('yaml', loadConfig({ file: options.config, environment: process.env, sets: options.set }));
