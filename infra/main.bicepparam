// azd sets these from its environment (`azd env set NAME VALUE`); without azd, plain environment variables do.
using 'main.bicep'

@description('A size that does not exist stops here, before anything is deployed.')
var memory = { '512': 512, '2048': 2048, '4096': 4096 }

@description('Without one, everything is made where the resource group is.')
var place = readEnvironmentVariable('AZURE_LOCATION', '')

param name = readEnvironmentVariable('AZURE_ENV_NAME', 'mailroom')

param location = empty(place) ? null : place

param instanceMemoryMB = memory[readEnvironmentVariable('MAILROOM_INSTANCE_MEMORY_MB', '2048')]

param maximumInstanceCount = int(readEnvironmentVariable('MAILROOM_MAXIMUM_INSTANCES', '40'))

param storageSku = readEnvironmentVariable('MAILROOM_STORAGE_SKU', 'Standard_ZRS')
