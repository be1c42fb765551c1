"""What must be said wherever a session is shown."""

NOTICE = "Synthetic sessions for research and training. Not care, not advice, not real people."

REHEARSAL_NOTICE = (
    "Written by the rehearsal engine, which is not a language model. Set OPENAI_API_KEY, or OPENAI_BASE_URL and "
    "MAGNET_LLM__MODEL, to have a model write."
)
