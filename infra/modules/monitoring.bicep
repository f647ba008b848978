// Application Insights, kept in a workspace. Both take telemetry from identities only: a connection string alone opens nothing.

@description('Makes the names unique.')
param token string

@description('Where everything is made.')
param location string

@description('The name of the identity that the code runs as; the assignments\' names are derived from it.')
param identityName string

@description('The same identity, as roles know it.')
param principalId string

resource workspace 'Microsoft.OperationalInsights/workspaces@2026-03-01' = {
  name: 'log-mailroom-${token}'
  location: location
  properties: {
    sku: {
      name: 'PerGB2018'
    }
    retentionInDays: 30
    features: {
      disableLocalAuth: true
    }
  }
}

resource insights 'Microsoft.Insights/components@2020-02-02' = {
  name: 'appi-mailroom-${token}'
  location: location
  kind: 'web'
  properties: {
    Application_Type: 'web'
    WorkspaceResourceId: workspace.id
    DisableLocalAuth: true
  }
}

// The host and the worker write telemetry.
resource metricsPublisher 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(insights.id, identityName, 'Monitoring Metrics Publisher')
  scope: insights
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: roleDefinitions('Monitoring Metrics Publisher').id
  }
}

@description('Where telemetry goes. Its instrumentation key is no secret while local authentication is off.')
output connectionString string = insights.properties.ConnectionString
