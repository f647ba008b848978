// A table of contents: what is made, and who is handed what. Each line's how and why is in its module.
// One resource group is all it touches, so whoever deploys needs no right beyond that group.
targetScope = 'resourceGroup'

@description('The environment\'s name; the resources\' names are derived from it and from the resource group.')
@minLength(1)
@maxLength(64)
param name string

@description('Where everything is made; unset, where the resource group is.')
param location string = resourceGroup().location

@description('Memory of one instance, in MB; its share of a CPU follows from it.')
@allowed([512, 2048, 4096])
param instanceMemoryMB int = 2048

@description('The most on-demand instances of each function group. What a mailbox can take is bounded by its lane, not here.')
@minValue(1)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('How storage is replicated. The default survives the loss of a zone; where a region has no zones, use Standard_LRS. Never to another region: after a failover the ledger would have gone back in time, and mails would be sent twice.')
@allowed(['Standard_LRS', 'Standard_ZRS'])
param storageSku string = 'Standard_ZRS'

@description('Makes names unique that Azure wants unique in all the world.')
var token = uniqueString(resourceGroup().id, name)

@description('The one identity that the code runs as.')
var identityName = 'id-mailroom-${token}'

module identity 'modules/identity.bicep' = {
  params: {
    name: identityName
    location: location
  }
}

module monitoring 'modules/monitoring.bicep' = {
  params: {
    token: token
    location: location
    identityName: identityName
    principalId: identity.outputs.principalId
  }
}

module storage 'modules/storage.bicep' = {
  params: {
    name: 'st${token}'
    location: location
    sku: storageSku
    identityName: identityName
    principalId: identity.outputs.principalId
  }
}

module vault 'modules/vault.bicep' = {
  params: {
    name: 'kv-${token}'
    location: location
    identityName: identityName
    principalId: identity.outputs.principalId
  }
}

module app 'modules/app.bicep' = {
  params: {
    token: token
    location: location
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    identityId: identity.outputs.id
    clientId: identity.outputs.clientId
    storage: storage.outputs.places
    vaultUrl: vault.outputs.url
    telemetry: monitoring.outputs.connectionString
  }
}

@description('Where the HTTP functions answer.')
output MAILROOM_API_URL string = app.outputs.apiUrl

@description('Where certificates and secrets are put.')
output AZURE_KEY_VAULT_NAME string = vault.outputs.name

@description('For `az functionapp` commands.')
output AZURE_FUNCTION_APP_NAME string = app.outputs.name
