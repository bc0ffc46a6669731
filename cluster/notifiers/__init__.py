"""Sending notifications: webhooks, Slack and Teams over checked HTTP connections, and mail over checked SMTP connections."""
