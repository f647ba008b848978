// The one identity that the code runs as. User-assigned, so that its roles can be in place before the app first starts.

@description('The identity\'s name.')
param name string

@description('Where it is made.')
param location string

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2024-11-30' = {
  name: name
  location: location
}

@description('What the app runs as.')
output id string = identity.id

@description('What roles are given to.')
output principalId string = identity.properties.principalId

@description('What the code asks tokens for.')
output clientId string = identity.properties.clientId
