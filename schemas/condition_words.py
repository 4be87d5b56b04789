"""One value for one operating condition, whether a plant writes it in English or in Korean.

The router counts the values of a condition column and engine C learns from them: `저속` and `low` must be one value and
not two. What is listed here is read as the value it stands under, in any case and with or without spaces, dashes and
underscores; any other value stays as it was written. Words that a plant may use side by side, such as `low` and `slow`,
stay apart: two levels taken for one could not be told apart again.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from schemas.machine_types import fold

_Words = Mapping[str, tuple[str, ...]]

_ANSWERS: _Words = {
    "yes": ("예", "네", "있음", "true"),
    "no": ("아니오", "아니요", "없음", "false"),
    "on": ("켜짐", "켬"),
    "off": ("꺼짐", "끔"),
}
"""In every condition column. Single letters are none of them: `y` may be an axis and `o` a place."""

_DEGREES: _Words = {
    "low": ("낮음", "저", "하", "l", "lo"),
    "medium": ("중간", "보통", "중", "m", "mid", "middle", "med"),
    "high": ("높음", "고", "상", "h", "hi"),
}

CONDITION_WORDS: Mapping[str, _Words] = MappingProxyType(
    {
        "speed_level": {
            "low": ("저속", "low speed", *_DEGREES["low"]),
            "medium": ("중속", "medium speed", "mid speed", *_DEGREES["medium"]),
            "high": ("고속", "high speed", *_DEGREES["high"]),
            "slow": ("느림",),
            "fast": ("빠름",),
            "top": ("최고속", "최고 속도", "top speed", "max", "maximum"),
            "rated": ("정격", "정격 속도", "rated speed"),
        },
        "load_level": {
            "low": ("저부하", "low load", *_DEGREES["low"]),
            "medium": ("중부하", "medium load", "mid load", *_DEGREES["medium"]),
            "high": ("고부하", "high load", *_DEGREES["high"]),
            "light": ("경부하", "light load"),
            "heavy": ("무거움", "heavy load"),
            "full": ("전부하", "최대 부하", "full load"),
            "rated": ("정격", "정격 부하", "rated load"),
            "unloaded": ("무부하", "no load", "without load"),
            "loaded": ("부하",),
        },
        "operating_mode": {
            "automatic": ("자동", "자동 운전", "auto"),
            "manual": ("수동", "수동 운전"),
            "loaded": ("부하 운전", "부하", "load"),
            "unloaded": ("무부하 운전", "무부하", "no load"),
            "idle": ("공회전", "공운전", "idling"),
            "open and close": ("개폐 반복", "개폐"),
            "partial": ("부분 개폐", "부분", "throttled"),
        },
    }
)
"""By column its values, each with the further spellings that are read as it."""


def fold_condition(column: str, text: str) -> str:
    """The one value for what a plant wrote in a condition column; the text itself where it is not known."""
    return _values(column).get(fold(text), text)


@cache
def _values(column: str) -> Mapping[str, str]:
    words = {**_ANSWERS, **CONDITION_WORDS.get(column, {})}
    return {fold(spelling): value for value, more in words.items() for spelling in (value, *more)}
