// One account for the Functions host, the deployed package and the mail. No keys: who has no role gets nothing.

import { StoragePlaces } from 'types.bicep'

@description('The account\'s name.')
param name string

@description('Where it is made.')
param location string

@description('How it is replicated.')
param sku string

@description('The name of the identity that the code runs as; the assignments\' names are derived from it.')
param identityName string

@description('The same identity, as roles know it.')
param principalId string

@description('Where deployments put the package.')
var packageContainer = 'app-package'

@description('Accepted mails that wait, mails that came in, and attachments that callers put there: mailroom/model/places.py.')
var containers = ['mail-outbox', 'mail-inbox', 'mail-uploads']

@description('Tickets, events, and the poison queues that the host would make only after the first poisoned message.')
var queues = ['mail-outbox', 'mail-outbox-poison', 'mail-sync', 'mail-sync-poison', 'mail-received']

@description('The ledger, lanes, callers\' keys, cursors and sealed tokens.')
var tables = ['MailLedger', 'MailLanes', 'MailKeys', 'MailCursors', 'MailTokens']

@description('The least that works for each service. Blobs: the host keeps leases and its own containers, which asks for Owner. Queues: triggers, tickets and poison. Tables: rows, and the host\'s diagnostic events.')
var roles = ['Storage Blob Data Owner', 'Storage Queue Data Contributor', 'Storage Table Data Contributor']

resource account 'Microsoft.Storage/storageAccounts@2026-06-01' = {
  name: name
  location: location
  kind: 'StorageV2'
  sku: {
    name: sku
  }
  properties: {
    allowSharedKeyAccess: false
    defaultToOAuthAuthentication: true
    allowBlobPublicAccess: false
    allowCrossTenantReplication: false
    allowedCopyScope: 'AAD'
    isLocalUserEnabled: false
    minimumTlsVersion: 'TLS1_2'
    supportsHttpsTrafficOnly: true
    // Flex Consumption without a network of its own has no address to let in; identity is the wall.
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      defaultAction: 'Allow'
      bypass: 'AzureServices'
    }
  }

  resource blobs 'blobServices' = {
    name: 'default'
    properties: {
      // Mails are deleted to be gone: keep_days in accounts.toml is the only retention.
      deleteRetentionPolicy: {
        enabled: false
      }
      containerDeleteRetentionPolicy: {
        enabled: false
      }
    }

    resource container 'containers' = [
      for container in [packageContainer, ...containers]: {
        name: container
        properties: {
          publicAccess: 'None'
        }
      }
    ]
  }

  resource queueService 'queueServices' = {
    name: 'default'

    resource queue 'queues' = [for queue in queues: { name: queue }]
  }

  resource tableService 'tableServices' = {
    name: 'default'

    resource table 'tables' = [for table in tables: { name: table }]
  }
}

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in roles: {
    name: guid(account.id, identityName, role)
    scope: account
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleDefinitions(role).id
    }
  }
]

@description('Where the app finds each service, and its own package.')
output places StoragePlaces = {
  blob: 'https://${account.name}.blob.${environment().suffixes.storage}'
  queue: 'https://${account.name}.queue.${environment().suffixes.storage}'
  table: 'https://${account.name}.table.${environment().suffixes.storage}'
  packageContainer: packageContainer
}
