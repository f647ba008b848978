// The function app on Flex Consumption. Its settings are those that the code and the host read, and no others.

import { StoragePlaces } from 'types.bicep'

@description('Makes the names unique.')
param token string

@description('Where everything is made.')
param location string

@description('Memory of one instance, in MB.')
param instanceMemoryMB int

@description('The most on-demand instances of each function group.')
param maximumInstanceCount int

@description('The identity that the code runs as.')
param identityId string

@description('The same identity, as tokens know it.')
param clientId string

@description('The storage account.')
param storage StoragePlaces

@description('The vault.')
param vaultUrl string

@description('Application Insights\' connection string.')
param telemetry string

resource plan 'Microsoft.Web/serverfarms@2025-03-01' = {
  name: 'plan-mailroom-${token}'
  location: location
  kind: 'functionapp'
  sku: {
    tier: 'FlexConsumption'
    name: 'FC1'
  }
  properties: {
    reserved: true // Linux
  }
}

resource site 'Microsoft.Web/sites@2025-03-01' = {
  name: 'func-mailroom-${token}'
  location: location
  kind: 'functionapp,linux'
  tags: {
    'azd-service-name': 'mailroom'
  }
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    clientAffinityEnabled: false
    functionAppConfig: {
      deployment: {
        storage: {
          type: 'blobContainer'
          value: '${storage.blob}/${storage.packageContainer}'
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      runtime: {
        name: 'python'
        version: '3.13'
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
        triggers: {
          http: {
            // Requests wait for the provider, not for the CPU; Python's default of 1 would start an instance for each.
            perInstanceConcurrency: 16
          }
        }
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
      ftpsState: 'Disabled'
      http20Enabled: true
      appSettings: [
        { name: 'AzureWebJobsStorage__blobServiceUri', value: storage.blob }
        { name: 'AzureWebJobsStorage__queueServiceUri', value: storage.queue }
        { name: 'AzureWebJobsStorage__tableServiceUri', value: storage.table }
        { name: 'AzureWebJobsStorage__credential', value: 'managedidentity' }
        { name: 'AzureWebJobsStorage__clientId', value: clientId }
        { name: 'AZURE_CLIENT_ID', value: clientId }
        { name: 'MAILROOM_ACCOUNTS', value: 'accounts.toml' } // in the package
        { name: 'MAILROOM_VAULT_URL', value: vaultUrl }
        { name: 'APPLICATIONINSIGHTS_CONNECTION_STRING', value: telemetry }
        {
          name: 'APPLICATIONINSIGHTS_AUTHENTICATION_STRING'
          value: 'ClientId=${clientId};Authorization=AAD'
        }
      ]
    }
  }

  // Deployments sign in with Entra ID; the passwords that every site has stay off.
  resource ftpPassword 'basicPublishingCredentialsPolicies' = {
    name: 'ftp'
    properties: {
      allow: false
    }
  }

  resource scmPassword 'basicPublishingCredentialsPolicies' = {
    name: 'scm'
    properties: {
      allow: false
    }
  }
}

@description('The function app\'s name.')
output name string = site.name

@description('Where the HTTP functions answer.')
output apiUrl string = 'https://${site.properties.defaultHostName}/api'
