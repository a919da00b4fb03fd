"""AgentDojo's prompt injections and user tasks, played through this program's tools by a model that obeys them."""
