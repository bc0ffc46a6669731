"""Bodies of logins."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from serve_app.schemas.fields import ExactBody, Text


class DeviceLogin(ExactBody):
    """``device_code`` is that of the answer that began the login."""

    device_code: Annotated[Text, Field(min_length=1, max_length=4096)]
