/**
 * The marks that a gateway puts on requests and answers.
 *
 * Requests: the egress writes one hop and refuses a CONNECT that has one already; the other side refuses more than one. So
 * what came in from the federation never leaves through an egress, even if someone wires a gateway to a gateway.
 * Answers: every gateway adds who it is and what it made of the request, so that a trace can tell which hop said no. They
 * are on all answers and not on asked-for ones alone: that would need a second route for every service.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { type HopRole, hopHeader, hopMark, sourceHeader } from '../../core/hop.ts';
import { type AccessLogFilterSchema, ComparisonFilter_Op } from '../../gen/envoy/config/accesslog/v3/accesslog_pb.ts';
import {
  HeaderValueOption_HeaderAppendAction,
  type HeaderValueOptionSchema,
} from '../../gen/envoy/config/core/v3/base_pb.ts';
import { type PermissionSchema, RBAC_Action } from '../../gen/envoy/config/rbac/v3/rbac_pb.ts';
import { RBACSchema } from '../../gen/envoy/extensions/filters/http/rbac/v3/rbac_pb.ts';
import { HeaderMutationSchema } from '../../gen/envoy/extensions/http/early_header_mutation/header_mutation/v3/header_mutation_pb.ts';
import { extension, packed } from './encoded.ts';
import { gatewayIdVariable, hopsHeader, peerHeader } from './resource_names.ts';

type HeaderInit = MessageInitShape<typeof HeaderValueOptionSchema>;
type PermissionInit = MessageInitShape<typeof PermissionSchema>;

const option = (key: string, value: string, appendAction: HeaderValueOption_HeaderAppendAction): HeaderInit => ({
  header: { key, value },
  appendAction,
});

/** The gateway's id comes from the environment, so that all gateways of a cluster share one resource. */
const mark = (role: HopRole, member: string): string =>
  hopMark(role, {
    member,
    gateway: `%ENVIRONMENT(${gatewayIdVariable})%`,
    to: '%UPSTREAM_METADATA(envoy.transport_socket_match:member)%',
    upstream: '%UPSTREAM_REMOTE_ADDRESS%',
    peer: '%UPSTREAM_PEER_URI_SAN%',
    flags: '%RESPONSE_FLAGS%',
    details: '%RESPONSE_CODE_DETAILS%',
    attempts: '%UPSTREAM_REQUEST_ATTEMPT_COUNT%',
  });

/** For answers that pass through, or that the router makes: added behind what farther gateways wrote. */
export const answerMark = (role: HopRole, member: string): HeaderInit =>
  option(hopHeader, mark(role, member), HeaderValueOption_HeaderAppendAction.APPEND_IF_EXISTS_OR_ADD);

/** For answers that this gateway makes before it has a route: nobody else is behind them. */
export const localAnswerMark = (role: HopRole, member: string): HeaderInit =>
  option(hopHeader, mark(role, member), HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD);

/** Every answer that this gateway makes itself. (A mapper needs a filter: all of them have a status of 100 or more.) */
export const anyAnswer: MessageInitShape<typeof AccessLogFilterSchema> = {
  filterSpecifier: {
    case: 'statusCodeFilter',
    value: {
      comparison: { op: ComparisonFilter_Op.GE, value: { defaultValue: 100, runtimeKey: 'isthmus.any_answer' } },
    },
  },
};

export const firstHop: HeaderInit = option(
  hopsHeader,
  '1',
  HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
);

/** Over whatever the caller says of itself. */
export const provenSource: HeaderInit = option(
  sourceHeader,
  '%DOWNSTREAM_PEER_URI_SAN%',
  HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
);

/** Before anything reads the headers. */
const early = (value: HeaderInit) => ({
  name: 'envoy.http.early_header_mutation.header_mutation',
  typedConfig: packed(HeaderMutationSchema, { mutations: [{ action: { case: 'append', value } }] }),
});

/** Says from which member a request is, before a route is looked for. What the caller wrote there is gone. */
export const fromMember = (member: string) =>
  early(option(peerHeader, member, HeaderValueOption_HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD));

/** Says from which workload a request is, before limits and routes go by it. */
export const fromWorkload = () => early(provenSource);

const marked: PermissionInit = {
  rule: {
    case: 'header',
    value: { name: hopsHeader, headerMatchSpecifier: { case: 'presentMatch', value: true } },
  },
};

const markedOnce: PermissionInit = {
  rule: {
    case: 'header',
    value: {
      name: hopsHeader,
      headerMatchSpecifier: { case: 'stringMatch', value: { matchPattern: { case: 'exact', value: '1' } } },
    },
  },
};

const refuse = (permission: PermissionInit) =>
  extension('envoy.filters.http.rbac', RBACSchema, {
    rules: {
      action: RBAC_Action.DENY,
      policies: {
        loop: { permissions: [permission], principals: [{ identifier: { case: 'any', value: true } }] },
      },
    },
  });

/** On the egress: nothing that has been through a gateway. */
export const refuseAnyHop = () => refuse(marked);

/** On the federation listener: at most one hop. */
export const refuseSecondHop = () =>
  refuse({
    rule: {
      case: 'andRules',
      value: { rules: [marked, { rule: { case: 'notRule', value: markedOnce } }] },
    },
  });
