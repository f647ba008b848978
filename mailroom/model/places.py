"""Where things lie in the storage account. infra/ makes these places; a test holds the two together."""

OUTBOX_CONTAINER = "mail-outbox"
INBOX_CONTAINER = "mail-inbox"
UPLOADS_CONTAINER = "mail-uploads"
CONTAINERS = (OUTBOX_CONTAINER, INBOX_CONTAINER, UPLOADS_CONTAINER)

LEDGER_TABLE = "MailLedger"
LANES_TABLE = "MailLanes"
KEYS_TABLE = "MailKeys"
CURSORS_TABLE = "MailCursors"
TOKENS_TABLE = "MailTokens"
TABLES = (LEDGER_TABLE, LANES_TABLE, KEYS_TABLE, CURSORS_TABLE, TOKENS_TABLE)

OUTBOX_QUEUE = "mail-outbox"
OUTBOX_POISON = "mail-outbox-poison"
SYNC_QUEUE = "mail-sync"
SYNC_POISON = "mail-sync-poison"
RECEIVED_QUEUE = "mail-received"
QUEUES = (OUTBOX_QUEUE, OUTBOX_POISON, SYNC_QUEUE, SYNC_POISON, RECEIVED_QUEUE)
