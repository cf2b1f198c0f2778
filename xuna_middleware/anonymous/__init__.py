"""Callers without credentials: which agents they may talk to, and how. Public: captchas."""

from xuna_middleware.anonymous.captcha import Captcha
from xuna_middleware.anonymous.options import CaptchaCheck

__all__ = [
    "Captcha",
    "CaptchaCheck",
]
