"""Backups with point-in-time restore in S3 and what speaks its protocol, in Google's and Microsoft's storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from litefs_backup_store import make_service, settings

from litefs.extensions import BackupSpec
from litefs.hookspecs import hookimpl

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "endpoint": {
            "description": "URL of a server that speaks S3's protocol. Empty: Amazon's, by region.",
            "type": "string",
            "default": "",
        },
        "region": {
            "description": "Region of the bucket. Empty: AWS_REGION or AWS_DEFAULT_REGION, else us-east-1.",
            "type": "string",
            "default": "",
        },
        "access-key-id": {
            "description": "Access key. Empty: AWS_ACCESS_KEY_ID, or the machine's role.",
            "type": "string",
            "default": "",
        },
        "secret-access-key": {
            "description": "Its secret. Empty: AWS_SECRET_ACCESS_KEY. Best taken from the environment.",
            "type": "string",
            "writeOnly": True,
            "default": "",
        },
        **settings.PROPERTIES,
    },
}


@hookimpl
def litefs_backups() -> Sequence[BackupSpec]:
    return [BackupSpec("s3", make_service, SCHEMA)]
