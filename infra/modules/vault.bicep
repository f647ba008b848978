// Client secrets, certificates, refresh tokens and the key that seals cached tokens.

@description('The vault\'s name.')
param name string

@description('Where it is made.')
param location string

@description('The name of the identity that the code runs as; the assignments\' names are derived from it.')
param identityName string

@description('The same identity, as roles know it.')
param principalId string

@description('Officer, since the code also writes: the sealing key and renewed refresh tokens. A certificate\'s private key is read as a secret; Certificate User shows certificates, their versions and when they end; Crypto User signs with keys that stay here.')
var roles = ['Key Vault Secrets Officer', 'Key Vault Certificate User', 'Key Vault Crypto User']

resource vault 'Microsoft.KeyVault/vaults@2026-05-15' = {
  name: name
  location: location
  properties: {
    tenantId: tenant().tenantId
    sku: {
      family: 'A'
      name: 'standard'
    }
    enableRbacAuthorization: true
    enableSoftDelete: true
    softDeleteRetentionInDays: 90
    enablePurgeProtection: true
    // Flex Consumption without a network of its own has no address to let in; identity is the wall.
    publicNetworkAccess: 'Enabled'
    networkAcls: {
      defaultAction: 'Allow'
      bypass: 'None'
    }
  }
}

resource assignments 'Microsoft.Authorization/roleAssignments@2022-04-01' = [
  for role in roles: {
    name: guid(vault.id, identityName, role)
    scope: vault
    properties: {
      principalId: principalId
      principalType: 'ServicePrincipal'
      roleDefinitionId: roleDefinitions(role).id
    }
  }
]

@description('The vault\'s name.')
output name string = vault.name

@description('Where the code reads it; no slash at the end.')
output url string = 'https://${vault.name}${environment().suffixes.keyvaultDns}'
