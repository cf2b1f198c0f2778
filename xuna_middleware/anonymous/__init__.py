"""Anonymous access: agents for callers without credentials. Public: captchas."""

from xuna_middleware.anonymous.captcha import Captcha
from xuna_middleware.anonymous.options import CaptchaCheck

__all__ = [
    "Captcha",
    "CaptchaCheck",
]
