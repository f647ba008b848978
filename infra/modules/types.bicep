// What modules hand to each other.

@export()
@description('The storage account as the app sees it; the endpoints have no slash at their end.')
@sealed()
type StoragePlaces = {
  @description('The blob endpoint.')
  blob: string

  @description('The queue endpoint.')
  queue: string

  @description('The table endpoint.')
  table: string

  @description('The container that deployments put the package in.')
  packageContainer: string
}
