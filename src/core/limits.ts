/**
 * Every bound in one place, units last in the name. Relations between bounds are asserted when the module loads, so that
 * a change that makes two of them disagree fails at start-up and in every test, not at 03:12.
 */

export const limits = {
  // records
  recordBytesMax: 64 * 1024,
  manifestBytesMax: 4 * 1024,
  membershipBytesMax: 64 * 1024,
  setPolicyBytesMax: 64 * 1024,
  recordsPerMemberMax: 20_000,
  recordKeyLengthMax: 256,
  membersMax: 512,
  portsPerServiceMax: 64,
  accountsPerServiceMax: 64,
  localitiesPerServiceMax: 64,
  gatewaysPerMemberMax: 32,
  rootsPerMemberMax: 8,
  registeredRootsMax: 32,
  loadedRootsMax: 600,
  loadedNamesMax: 8,
  loadedNameLengthMax: 160,
  capacityMax: 1_000_000,
  capacityPerSecondMax: 1_000_000,
  grantsPerReaderMax: 1_024,
  votesMax: 64,
  verdictsSummaryMax: 256,
  statePartBytesMax: 60 * 1024,
  statePartsMax: 16,
  /** Of a sealed state beside the store, in a ConfigMap, which holds 1 MiB of bytes. */
  stateBesideBytesMax: 1024 * 1024 - 32 * 1024,
  nameLengthMax: 63,
  addressRangesMax: 64,
  namespacesMax: 4_096,
  serviceAccountsMax: 4_096,
  hostnameLengthMax: 253,
  certificateBytesMax: 8 * 1024,
  criticalFieldsMax: 64,
  problemsPerMemberMax: 32,
  stagedBytesPerMemberMax: 64 * 1024 * 1024,
  noiseBurstS: 20,
  noiseHeldChangesMax: 20_000,
  stagedBytesUnknownMax: 4 * 1024 * 1024,
  unknownMembersMax: 16,
  uncoveredGraceMs: 3_000,
  membershipGraceMs: 86_400_000,
  /** A membership begins so long before it is made: clocks of readers may be behind that of the desk. */
  membershipBackdateMs: 86_400_000,
  // store
  txnOpsMax: 120,
  txnBytesMax: 1024 * 1024,
  publishRetryMinMs: 200,
  publishRetryMaxMs: 5_000,
  /** After a store gateway refused the whole for its quota or rate. */
  publishWholeMinMs: 5_000,
  publishWholeMaxMs: 60_000,
  publishTicksInARow: 16,
  publishRestMs: 20,
  storeUnaryTimeoutMs: 5_000,
  watchSilenceMaxMs: 12_000,
  watchProgressIntervalMs: 4_000,
  watchCheckIntervalMs: 1_000,
  watchResyncIntervalMs: 240_000,
  watchBackoffMinMs: 200,
  watchBackoffMaxMs: 5_000,
  resyncLogEventsMax: 50_000,
  storePageKeysMax: 500,
  storeListBytesMax: 512 * 1024 * 1024,
  storeListNameBytesMax: 72 * 1024 * 1024,
  storeListNameKeysMax: 21_000,
  storeMessageBytesMax: 64 * 1024 * 1024,
  storeConnectTimeoutMs: 4_000,
  storeAttemptStaggerMs: 1_000,
  storeRetryMinMs: 200,
  // the store gateway, of each member but for the last two
  writeBytesMax: 1024 * 1024 + 128 * 1024,
  writeKeyLengthMax: 256,
  writeOverheadBytes: 256,
  writesInFlightMax: 16,
  writeCallsPerSecond: 100,
  writeCallsBurst: 400,
  writeReceivedBytesPerSecond: 4 * 1024 * 1024,
  writeReceivedBytesBurst: 96 * 1024 * 1024,
  writeWaitMaxMs: 2_000,
  writeAttemptsMax: 8,
  writeNamesMax: 20_500,
  writeComparesMax: 4,
  writesQueuedMax: 64,
  writeConnectionAgeMs: 3_600_000,
  renewalsPerHour: 6,
  /** Client certificates for etcd of one member that have not ended yet. */
  issuedLiveMax: 64,
  writeConnectionsPerAddressMax: 64,
  writeConnectionsPerSecondMax: 20,
  // the authority, and getting in
  authorityFileBytesMax: 64 * 1024,
  passphraseLengthMin: 12,
  joinTokenBytesMax: 32 * 1024,
  joinRequestBytesMax: 64 * 1024,
  joinAnswerBytesMax: 128 * 1024,
  joinTokenTtlMaxMs: 7 * 86_400_000,
  revocationBytesMax: 4 * 1024,
  successionLinkBytesMax: 12 * 1024,
  successionLinksMax: 32,
  revocationsToldMax: 16,
  revocationsTextMax: 8 * 1024,
  // xds
  requestBytesMax: 16 * 1024 * 1024,
  streamsMax: 10_000,
  streamsPerConnectionMax: 100,
  streamsPerPodMax: 16,
  connectionsMax: 12_000,
  connectionsPerSecondMax: 500,
  connectionsBurstMax: 2_000,
  tlsHandshakeTimeoutMs: 10_000,
  idleConnectionMs: 120_000,
  keepaliveMs: 10_000,
  keepaliveTimeoutMs: 5_000,
  subscriptionsPerStreamMax: 100_000,
  nodeIdLengthMax: 512,
  errorDetailLengthMax: 1_024,
  slowStreamTimeoutMs: 30_000,
  responseBytesMax: 4 * 1024 * 1024,
  resourceNameLengthMax: 2_048,
  versionLengthMax: 128,
  typeUrlLengthMax: 256,
  nonceLengthMax: 128,
  changeLogEntriesMax: 100_000,
  unansweredPerTypeMax: 64,
  orderWaitMs: 200,
  flushGapMinMs: 5,
  flushGapMaxMs: 100,
  // telemetry of gateways
  telemetryStreamsMax: 1_024,
  telemetryMessageBytesMax: 1024 * 1024,
  telemetryEntriesPerMessageMax: 10_000,
  telemetryCellsMax: 50_000,
  telemetryDoorsPerSecondMax: 500,
  // probes
  probesInFlightMax: 128,
  gatewayProbesPerSecondMax: 100,
  serviceProbesPerSecondMax: 10,
  grayProbesPerSecondMax: 50,
  metricQueryLengthMax: 1_024,
  metricQueriesPerSecondMax: 10,
  metricQueriesInFlightMax: 4,
  metricAnswerBytesMax: 512 * 1024,
  // the federation border, of each member at each Envoy
  memberConnectionsMax: 2_000,
  memberConnectsPerSecondMax: 2_000,
  // the egress
  identityConnectsPerSecond: 2_000,
  identityConnectsPerSecondMax: 1_000_000,
  egressIdentitiesMax: 20_000,
  egressPolicyRulesMax: 256,
  egressPolicySourcesMax: 10_000,
  egressPolicyBytesMax: 512 * 1024,
  egressMembersSourcesMax: 256,
  egressPolicyServicesMax: 2_000,
  egressRulesMany: 1_000,
  egressSourcesMany: 10_000,
  denialsToldMax: 1_000,
  // certificates
  csrBytesMax: 8 * 1024,
  tokenBytesMax: 16 * 1024,
  certificateTtlMaxS: 86_400,
  trustFileBytesMax: 256 * 1024,
  signingInFlightMax: 4,
  signingQueueLengthMax: 10_000,
  signingWaitMaxMs: 8_000,
  certificatesPerCallerBurst: 10,
  certificatesPerCallerPerMinute: 6,
  callersRememberedMax: 50_000,
  // Kubernetes
  kubeRequestTimeoutMs: 10_000,
  kubePageSize: 500,
  kubeResponseBytesMax: 256 * 1024 * 1024,
  kubeLineBytesMax: 16 * 1024 * 1024,
  kubeWatchTimeoutS: 300,
  kubeWatchSilenceMaxMs: 80_000,
  kubeResyncMs: 600_000,
  kubeAbsentPollMs: 5_000,
  kubeBackoffMinMs: 200,
  kubeBackoffMaxMs: 5_000,
  eventsBurst: 100,
  eventsRefillMs: 200,
  eventsPerObjectBurst: 10,
  eventsPerObjectRefillMs: 30_000,
  tokenCacheEntriesMax: 10_000,
  tokenCacheMs: 60_000,
  // admin API
  adminBodyBytesMax: 16 * 1024,
  httpConnectionsMax: 256,
  httpConnectionsPerAddressMax: 64,
  authorLengthMax: 256,
  commandReasonLengthMax: 512,
  // saved state
  failoverStateBytesMax: 64 * 1024 * 1024,
  stateBytesMax: 512 * 1024 * 1024,
  stateSetAsideMax: 16,
  // journal
  journalEntryBytesMax: 64 * 1024,
  journalInputsBytesMax: 1024 * 1024,
  journalInputsTextBytesMax: 16 * 1024 * 1024,
  journalSegmentBytesMax: 4 * 1024 * 1024,
  journalFileBytesMax: 256 * 1024 * 1024,
  journalEntriesBytesMax: 64 * 1024 * 1024,
  journalAllInputsBytesMax: 192 * 1024 * 1024,
  journalSpoolEntriesMax: 10_000,
  journalSpoolInputsBytesMax: 16 * 1024 * 1024,
  journalRetryMs: 1_000,
  journalWriteWaitMs: 2_000,
  journalExportBytesMax: 48 * 1024 * 1024,
  journalListMax: 1_000,
  journalFindingsMax: 100,
  journalAnchorsPerMemberMax: 16,
  journalRecordsWholeMax: 2_000,
  journalRecordsMax: 2_000,
  // the border audit
  auditBytesMin: 16 * 1024 * 1024,
  auditSegmentBytesMax: 2 * 1024 * 1024,
  auditFreeBytesMin: 64 * 1024 * 1024,
  auditSpoolEntriesMax: 20_000,
  auditBatchEntriesMax: 250,
  auditOpenAfterMs: 10_000,
  auditTunnelsWaitingMax: 20_000,
  auditFailuresPerSourceMax: 20,
  auditSourcesMax: 2_000,
} as const;

const holds = (condition: boolean, relation: string): void => {
  if (!condition) throw new Error(`limits: ${relation} does not hold`);
};

holds(limits.txnOpsMax < 128, 'txnOpsMax below the 128 operations that etcd allows in a transaction');
holds(limits.recordBytesMax * 16 < 1.5 * 1024 * 1024, 'sixteen records fit into one etcd request');
holds(limits.txnBytesMax < 1.4 * 1024 * 1024, 'a transaction fits into one etcd request');
holds(
  limits.recordBytesMax + 4 * limits.manifestBytesMax < limits.txnBytesMax,
  'the largest record and its manifest fit into a transaction',
);
holds(limits.statePartBytesMax + 1024 < limits.recordBytesMax, 'a part of the state fits into a record');
holds(
  limits.statePartBytesMax * limits.statePartsMax + 1024 < limits.stateBesideBytesMax,
  'what can be shipped through the store can be shipped beside it',
);
holds(
  limits.watchProgressIntervalMs * 3 <= limits.watchSilenceMaxMs,
  'three progress requests fit into the silence allowed',
);
holds(
  limits.watchSilenceMaxMs + limits.watchCheckIntervalMs < 15_000,
  'a half-open watch is noticed within 15 s, however its check falls',
);
holds(
  limits.storeListNameBytesMax > limits.stagedBytesPerMemberMax + limits.recordBytesMax,
  'a list holds what a reader stages of one member',
);
holds(limits.storeListNameKeysMax > limits.recordsPerMemberMax, 'a list holds all records of one member');
holds(
  limits.writeBytesMax > limits.txnBytesMax + 2 * limits.manifestBytesMax,
  'the gateway takes what a publisher sends',
);
holds(limits.txnOpsMax + 2 < 128, 'the gateway adds an operation and two comparisons to a transaction');
holds(limits.writeWaitMaxMs * 2 < limits.storeUnaryTimeoutMs, 'who is held back at the gateway still gets its answer');
holds(
  limits.writeReceivedBytesBurst > limits.stagedBytesPerMemberMax + limits.writesInFlightMax * limits.writeBytesMax,
  'a member may send all its records to the gateway at once',
);
holds(limits.writeNamesMax < limits.storeListNameKeysMax, 'a list holds all that the gateway lets in under one name');
holds(limits.streamsPerPodMax < limits.streamsPerConnectionMax, 'a refused stream is told so, not held back');
holds(limits.storeConnectTimeoutMs <= limits.storeUnaryTimeoutMs, 'connecting takes no longer than a call');
holds(limits.kubeWatchSilenceMaxMs > 65_000, 'a bookmark, one a minute, fits into the silence allowed');
holds(limits.auditSegmentBytesMax * 4 <= limits.auditBytesMin, 'the border audit keeps several files');
holds(limits.journalSegmentBytesMax * 4 <= limits.journalEntriesBytesMax, 'the journal keeps several files of entries');
